//! A user of Odoo, over HTTP as a browser is.

use std::{sync::LazyLock, time::Duration};

use serde_json::{Value, json};

pub(crate) static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());

/// A session of a user.
pub(crate) struct Web {
    client: reqwest::Client,
    url: String,
    cookie: String,
}

struct Answer {
    status: u16,
    cookie: Option<String>,
    body: Vec<u8>,
}

impl Web {
    /// Logs in.
    ///
    /// # Errors
    /// Odoo's words, or that it does not answer.
    pub(crate) fn login(url: &str, database: &str, user: &str, password: &str) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build()
            .unwrap();
        let mut web = Self { client, url: url.to_owned(), cookie: String::new() };
        let params = json!({ "db": database, "login": user, "password": password });
        let (answer, cookie) = web.rpc("/web/session/authenticate", params)?;
        if !answer["uid"].is_number() {
            return Err(format!("no user id: {answer}"));
        }
        web.cookie = cookie.ok_or("no session")?;
        Ok(web)
    }

    /// Calls a method of a model.
    pub(crate) fn call(&self, model: &str, method: &str, args: Value, kwargs: Value) -> Value {
        let params = json!({ "model": model, "method": method, "args": args, "kwargs": kwargs });
        let path = format!("/web/dataset/call_kw/{model}/{method}");
        self.rpc(&path, params).unwrap_or_else(|error| panic!("{model}.{method}: {error}")).0
    }

    /// How many records match.
    pub(crate) fn count(&self, model: &str, domain: Value) -> i64 {
        self.call(model, "search_count", json!([domain]), json!({})).as_i64().unwrap()
    }

    /// Makes a record; gives its id.
    pub(crate) fn create(&self, model: &str, values: Value) -> i64 {
        let id = self.call(model, "create", json!([values]), json!({}));
        id.as_i64().or_else(|| id[0].as_i64()).unwrap()
    }

    /// The bytes of an attachment as the browser downloads them.
    pub(crate) fn attachment(&self, id: i64) -> Vec<u8> {
        let answer = self.send(reqwest::Method::GET, &format!("/web/content/{id}"), None).unwrap();
        assert_eq!(answer.status, 200, "attachment {id}");
        answer.body
    }

    fn rpc(&self, path: &str, params: Value) -> Result<(Value, Option<String>), String> {
        let body = json!({ "jsonrpc": "2.0", "method": "call", "params": params });
        let answer = self.send(reqwest::Method::POST, path, Some(body))?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let value: Value =
            serde_json::from_str(&text).map_err(|_| format!("status {}: {text}", answer.status))?;
        match value.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok((value["result"].clone(), answer.cookie)),
        }
    }

    fn send(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Result<Answer, String> {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if !self.cookie.is_empty() {
            request = request.header("cookie", &self.cookie);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        RUNTIME.block_on(async {
            let response = request.send().await.map_err(|error| error.to_string())?;
            let status = response.status().as_u16();
            let cookie = response
                .headers()
                .get_all("set-cookie")
                .iter()
                .filter_map(|value| value.to_str().ok()?.split(';').next().map(str::to_owned))
                .find(|pair| pair.starts_with("session_id="));
            let body = response.bytes().await.map_err(|error| error.to_string())?.to_vec();
            Ok(Answer { status, cookie, body })
        })
    }
}

/// Downloads what a form asks for, such as a backup from Odoo's database manager.
pub(crate) fn post_form(url: &str, form: &str) -> Vec<u8> {
    RUNTIME.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(url).header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(form.to_owned()).send().await.unwrap();
        assert!(response.status().is_success(), "{url}: {}", response.status());
        response.bytes().await.unwrap().to_vec()
    })
}
