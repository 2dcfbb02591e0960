//! Whether an Odoo answers for a database: its login page, and the style sheets and scripts it names.
//!
//! This is the probe of both the boot on a clone and the wait after a cutover.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use undoo_core::{Kind, Problem, Result};

/// What a healthy login page brought with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Milliseconds until the login page was there.
    pub after_ms: u64,
    /// Style sheets and scripts that were fetched.
    pub assets: u64,
    /// Bytes of them.
    pub asset_bytes: u64,
}

/// How long and how often to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patience {
    /// Tries.
    pub attempts: u32,
    /// Milliseconds between them.
    pub interval_ms: u64,
}

impl Default for Patience {
    /// The source document's: 30 attempts, two seconds apart.
    fn default() -> Self {
        Self { attempts: 30, interval_ms: 2000 }
    }
}

/// Asks `base` (such as `http://acme_odoo:8069`) for the login page of `database` until it is there, and
/// fetches what it names.
///
/// # Errors
/// `NotProven` with what the last answer was.
pub async fn login_page(base: &str, database: &str, patience: Patience) -> Result<Answered> {
    let client = client()?;
    let began = Instant::now();
    // Many short waits notice a fast Odoo sooner than few long ones; the time allowed is the same.
    let allowed = Duration::from_millis(u64::from(patience.attempts) * patience.interval_ms);
    loop {
        let last = match fetch_login(&client, base, database).await {
            Ok(page) => {
                let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                return page.assets(&client, base, after_ms).await;
            }
            Err(reason) => reason,
        };
        if began.elapsed() >= allowed {
            return Err(Problem::new(
                Kind::NotProven,
                "no_login_page",
                format!(
                    "{base}/web/login of database \"{database}\" did not come in {} s: {last}",
                    allowed.as_secs()
                ),
                "see Odoo's log for the cause: a missing addon or Python package is the usual one",
            ));
        }
        tokio::time::sleep(Duration::from_millis(patience.interval_ms.min(200))).await;
    }
}

fn client() -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(60))
        .connect_timeout(Duration::from_secs(2))
        .no_proxy()
        .build()
        .map_err(|error| {
            Problem::new(Kind::Internal, "http_client", "no HTTP client could be made", "please report this")
                .caused_by(error)
        })
}

/// A login page, and the session in which it came: an Odoo with several databases knows by it which of
/// them a style sheet is asked of.
struct LoginPage {
    text: String,
    cookie: Option<String>,
}

fn get(client: &reqwest::Client, url: String, cookie: Option<&String>) -> reqwest::RequestBuilder {
    let request = client.get(url);
    match cookie {
        Some(cookie) => request.header("cookie", cookie),
        None => request,
    }
}

/// The login page, following Odoo's own redirects with its session cookie.
async fn fetch_login(client: &reqwest::Client, base: &str, database: &str) -> Result<LoginPage, String> {
    let encoded: String = url::form_urlencoded::byte_serialize(database.as_bytes()).collect();
    let mut path = format!("/web/login?db={encoded}");
    let mut cookie: Option<String> = None;
    for _ in 0..6 {
        let request = get(client, format!("{base}{path}"), cookie.as_ref());
        let response = request.send().await.map_err(|error| error.to_string())?;
        let session = response
            .headers()
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().ok()?.split(';').next())
            .find(|pair| pair.starts_with("session_id="));
        cookie = session.map(str::to_owned).or(cookie);
        let status = response.status();
        if status.is_redirection() {
            let to = response.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or_default();
            path = local_path(to).ok_or_else(|| format!("it redirects to {to}"))?;
            if path.starts_with("/web/database/") {
                return Err("it asks which database to use: none is served under that name".into());
            }
            continue;
        }
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        let text = response.text().await.map_err(|error| error.to_string())?;
        return if text.contains("name=\"login\"") || text.contains("oe_login_form") {
            Ok(LoginPage { text, cookie })
        } else {
            Err("it answers a page without a login form".into())
        };
    }
    Err("it redirects in circles".into())
}

/// The path of a redirect within the same Odoo, whatever host it believes to have.
fn local_path(location: &str) -> Option<String> {
    if location.starts_with('/') {
        return Some(location.to_owned());
    }
    let url = url::Url::parse(location).ok()?;
    Some(url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path())))
}

impl LoginPage {
    async fn assets(&self, client: &reqwest::Client, base: &str, after_ms: u64) -> Result<Answered> {
        let mut answered = Answered { after_ms, assets: 0, asset_bytes: 0 };
        for path in asset_paths(&self.text) {
            let broken = |reason: String| {
                Problem::new(
                    Kind::NotProven,
                    "asset_broken",
                    format!("the login page names {path}, which fails: {reason}"),
                    "see Odoo's log: the filestore or an addon is not what the database expects",
                )
            };
            let request = get(client, format!("{base}{path}"), self.cookie.as_ref());
            let response = request.send().await.map_err(|error| broken(error.to_string()))?;
            if !response.status().is_success() {
                return Err(broken(format!("it answers {}", response.status())));
            }
            let bytes = response.bytes().await.map_err(|error| broken(error.to_string()))?;
            if bytes.is_empty() {
                return Err(broken("it is empty".into()));
            }
            answered.assets += 1;
            answered.asset_bytes += bytes.len() as u64;
        }
        Ok(answered)
    }
}

/// Style sheets and scripts that Odoo's own page refers to.
fn asset_paths(page: &str) -> Vec<String> {
    let mut paths: Vec<String> = Vec::new();
    for attribute in ["href=\"/web/", "src=\"/web/"] {
        for (start, _) in page.match_indices(attribute) {
            let from = start + attribute.len() - "/web/".len();
            let path: String = page[from..].chars().take_while(|c| *c != '"').collect();
            let file = path.split('?').next().unwrap_or_default();
            if (file.ends_with(".css") || file.ends_with(".js")) && !paths.contains(&path) {
                paths.push(path.replace("&amp;", "&"));
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn style_sheets_and_scripts_are_found_once_and_pictures_are_not() {
        let page = r#"<link href="/web/assets/1/a.min.css"><script src="/web/assets/2/b.js?x=1&amp;y=2">
            <img src="/web/binary/company_logo"><link href="/web/assets/1/a.min.css">"#;
        assert_eq!(asset_paths(page), ["/web/assets/1/a.min.css", "/web/assets/2/b.js?x=1&y=2"]);
    }

    #[test]
    fn redirects_stay_with_the_odoo_that_was_asked() {
        assert_eq!(local_path("http://example.org/web/login?a=1").as_deref(), Some("/web/login?a=1"));
        assert_eq!(local_path("/web/login").as_deref(), Some("/web/login"));
        assert_eq!(local_path("nonsense"), None);
    }
}
