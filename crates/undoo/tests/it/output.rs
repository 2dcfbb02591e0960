//! Whoever reads the output may stop.

use std::{io::Read, process::Stdio};

use crate::undoo;

#[test]
fn nobody_has_to_read_to_the_end() {
    for arguments in [&["openapi"][..], &["completions", "bash"], &["help", "serve"]] {
        let mut process =
            undoo().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = process.stdout.take().unwrap();
        out.read_exact(&mut [0; 10]).unwrap();
        drop(out);
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{arguments:?}: {} {said}", output.status);
    }
}
