//! A custom module that needs a Python package which no index has, and an Odoo image with a pip for it.

use std::{
    io::{Cursor, Write as _},
    process::{Command, Stdio},
};

use zip::{ZipWriter, write::SimpleFileOptions};

/// The module's name.
pub const MODULE: &str = "undoo_greeter";
/// What partners answer to its method `undoo_greet`.
pub const WORDS: &str = "good morning";
/// The Python package that it needs, as one file.
pub const PACKAGE: (&str, &str) = ("undoo_greeting.py", "WORDS = 'good morning'\n");
/// Odoo with a pip, as the official image has it and that of `dev/images` has not.
pub const WITH_PIP: &str = "undoo-test-odoo-with-pip:19.0";

const MANIFEST: &str = "{'name': 'Greeter', 'version': '1.0', 'depends': ['base'], 'license': 'LGPL-3', \
                        'external_dependencies': {'python': ['undoo_greeting']}}";
const INIT: &str = "import undoo_greeting\nfrom odoo import models\n\n\nclass Partner(models.Model):\n    \
                    _inherit = 'res.partner'\n\n    def undoo_greet(self):\n        return undoo_greeting.WORDS\n";

/// A folder of addons, by paths in it: the module, what it asks for, and a wheel of that.
pub fn files() -> Vec<(String, Vec<u8>)> {
    let text = |name: &str, text: &str| (name.to_owned(), text.as_bytes().to_vec());
    vec![
        text(&format!("{MODULE}/__init__.py"), INIT),
        text(&format!("{MODULE}/__manifest__.py"), MANIFEST),
        text("requirements.txt", "undoo-greeting==1.0\n"),
        ("wheels/undoo_greeting-1.0-py3-none-any.whl".to_owned(), wheel()),
    ]
}

fn wheel() -> Vec<u8> {
    let info = "undoo_greeting-1.0.dist-info";
    let files = [
        (PACKAGE.0.to_owned(), PACKAGE.1),
        (format!("{info}/METADATA"), "Metadata-Version: 2.1\nName: undoo-greeting\nVersion: 1.0\n"),
        (
            format!("{info}/WHEEL"),
            "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        ),
        (format!("{info}/RECORD"), "undoo_greeting.py,,\n"),
    ];
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, text) in files {
        zip.start_file(name, SimpleFileOptions::default()).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Makes [`WITH_PIP`] on this machine's engine.
pub fn odoo_with_pip() {
    odoo_with(WITH_PIP, "apt-get update -q && apt-get install -qy --no-install-recommends python3-pip");
}

/// An image made from Odoo 19's by a command, once on a machine.
///
/// # Panics
/// When the engine could not.
pub fn odoo_with(name: &str, step: &str) {
    let engine = |words: &[&str], input: &str| {
        let mut docker = Command::new("docker");
        docker.args(words).env("DOCKER_BUILDKIT", "0").stdin(Stdio::piped()).stdout(Stdio::null());
        let mut docker = docker.stderr(Stdio::null()).spawn().unwrap();
        docker.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        docker.wait().unwrap().success()
    };
    if !engine(&["image", "inspect", name], "") {
        let recipe = format!("FROM odoo:19.0\nUSER root\nRUN {step}\nUSER odoo\n");
        assert!(
            engine(&["build", "-q", "--force-rm", "--network", "host", "-t", name, "-"], &recipe),
            "{name}"
        );
    }
}
