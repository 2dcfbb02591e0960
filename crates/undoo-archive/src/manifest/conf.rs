//! `odoo.conf` without what must not leave the server.
//!
//! A backup is handed out to more people than a server's configuration is. So whatever may be a secret
//! is taken out, at the price of taking out too much: a value is kept only where its option's name does
//! not sound like one, and comments, where old passwords like to stay, are dropped.

/// Parts of options' names whose values are secrets.
const SECRET: &[&str] =
    &["pass", "secret", "token", "key", "credential", "dsn", "private", "auth", "cert", "licen", "code"];

/// The configuration with each secret value replaced by `***`, and without comments.
pub fn redacted(conf: &str) -> String {
    let mut out = String::new();
    let mut hidden = false;
    for line in conf.lines() {
        let text = line.trim();
        if text.is_empty() || text.starts_with(['#', ';']) {
            continue;
        }
        // An indented line goes on with the value of the line before.
        let goes_on = line.starts_with([' ', '\t']);
        if goes_on && hidden {
            continue;
        }
        let option = text.split_once(['=', ':']).map(|(name, _)| name.trim()).filter(|_| !goes_on);
        hidden = option.is_some_and(is_secret);
        match option {
            Some(name) if hidden => out.push_str(&format!("{name} = ***")),
            // A URL with a password, whatever its option is called.
            _ if has_user(text) => {
                out.push_str(&format!("{} = ***", option.unwrap_or_default()));
                hidden = true;
            }
            _ => out.push_str(line.trim_end()),
        }
        out.push('\n');
    }
    out
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET.iter().any(|part| name.contains(part))
}

/// Whether there is a URL with a user part in the text.
fn has_user(text: &str) -> bool {
    text.split("://")
        .skip(1)
        .any(|rest| rest.split(['/', '?', '#', ' ']).next().is_some_and(|authority| authority.contains('@')))
}

#[cfg(test)]
mod tests {
    use super::redacted;

    #[test]
    fn secrets_comments_and_continued_secrets_are_gone_and_the_rest_stays() {
        let conf = "[options]\n; admin_passwd = old\nadmin_passwd = geheim1\ndb_password: geheim2\n  geheim3\n\
            addons_path = /mnt/a,\n    /mnt/b\nqueue = redis://u:geheim4@host/0\nworkers=4\n# geheim5\nlist_db = False\n";
        let out = redacted(conf);
        assert!(!out.contains("geheim") && !out.contains("old"), "{out}");
        for kept in ["[options]", "addons_path = /mnt/a,", "    /mnt/b", "workers=4", "list_db = False"] {
            assert!(out.contains(kept), "{kept} in {out}");
        }
        assert_eq!(out.matches("***").count(), 3);
    }
}
