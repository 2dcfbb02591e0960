//! A mail server that takes everything and keeps it.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// The server. Its thread ends with the test's process.
pub(crate) struct MailSink {
    pub(crate) port: u16,
    mails: Arc<Mutex<Vec<String>>>,
}

impl MailSink {
    /// Listens on this address and no other.
    pub(crate) fn on(address: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&mails);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || {
                    // A client that breaks off has sent nothing.
                    let _ = converse(&client, &kept);
                });
            }
        });
        Self { port, mails }
    }

    /// Subjects of everything that came.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let mails = self.mails.lock().unwrap();
        let subject = |mail: &String| {
            mail.lines().find_map(|line| line.strip_prefix("Subject: ")).unwrap_or_default().to_owned()
        };
        mails.iter().map(subject).collect()
    }

    /// Forgets what came.
    pub(crate) fn clear(&self) {
        self.mails.lock().unwrap().clear();
    }
}

fn converse(client: &TcpStream, kept: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut out = client;
    let mut lines = BufReader::new(client).lines();
    out.write_all(b"220 sink\r\n")?;
    while let Some(line) = lines.next().transpose()? {
        let answer: &[u8] = match line.to_ascii_uppercase().split(' ').next().unwrap_or_default() {
            "DATA" => {
                out.write_all(b"354 go on\r\n")?;
                let mut mail = String::new();
                while let Some(line) = lines.next().transpose()?.filter(|line| line != ".") {
                    mail.push_str(&line);
                    mail.push('\n');
                }
                kept.lock().unwrap().push(mail);
                b"250 taken\r\n"
            }
            "QUIT" => {
                out.write_all(b"221 bye\r\n")?;
                break;
            }
            _ => b"250 fine\r\n",
        };
        out.write_all(answer)?;
    }
    Ok(())
}
