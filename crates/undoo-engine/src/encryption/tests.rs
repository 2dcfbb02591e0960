//! Encrypted backups: who reads them, by how many bytes, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use super::*;

/// A thing that counts the bytes which are asked of it.
struct Counted(Vec<u8>, Mutex<u64>);

impl RangedRead for Counted {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn stream(&self, offset: u64, len: u64) -> io::Result<Box<dyn Read + Send>> {
        *self.1.lock().unwrap() += len;
        self.0.stream(offset, len)
    }
}

fn key() -> (Recipients, Identities) {
    let identity = x25519::Identity::generate();
    let recipients = Recipients::parse(&[identity.to_public().to_string()]).unwrap();
    (recipients, vec![SecretString::from(identity.to_string().expose_secret())].into())
}

fn encrypted(plain: &[u8], recipients: &Recipients) -> Vec<u8> {
    let mut out = Outgoing::new(Vec::new(), recipients).unwrap();
    out.write_all(plain).unwrap();
    out.finish().unwrap()
}

fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn opened(bytes: Vec<u8>, identities: &Identities) -> Result<Arc<dyn RangedRead>> {
    open(Arc::new(bytes), "b.zip", identities).map(|(plain, _)| plain)
}

#[test]
fn any_range_of_any_length_reads_as_it_was_written() {
    let (recipients, identities) = key();
    let chunk = CHUNK as usize;
    for len in [0, 1, 100, chunk - 1, chunk, chunk + 1, 3 * chunk, 5 * chunk + 77] {
        let plain = sample(len);
        let read = opened(encrypted(&plain, &recipients), &identities).unwrap();
        assert_eq!(read.size(), len as u64);
        let places = [0, 1, 50, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk - 1, 3 * chunk, len];
        for from in places.into_iter().filter(|from| *from <= len) {
            for to in places.into_iter().filter(|to| (from..=len).contains(to)) {
                let found = read.read_at(from as u64, to - from).unwrap();
                assert!(found == plain[from..to], "{len}: {from}..{to}");
            }
        }
        assert!(read.stream(0, len as u64 + 1).is_err() && read.stream(u64::MAX, 1).is_err());
    }
}

#[test]
fn a_read_fetches_the_pieces_that_it_touches_and_no_more() {
    let (recipients, identities) = key();
    let bytes = encrypted(&sample(100 * CHUNK as usize), &recipients);
    let counted = Arc::new(Counted(bytes, Mutex::default()));
    let (read, _) = open(counted.clone(), "b.zip", &identities).unwrap();
    assert!(*counted.1.lock().unwrap() <= HEAD + 2 * (CHUNK + TAG));
    for (offset, pieces) in [(10 * CHUNK + 5, 1), (11 * CHUNK - 5, 2), (20 * CHUNK, 2)] {
        *counted.1.lock().unwrap() = 0;
        read.read_at(offset, 10).unwrap();
        assert_eq!(*counted.1.lock().unwrap(), pieces * (CHUNK + TAG), "{offset}");
    }
}

#[test]
fn a_file_that_was_cut_or_changed_is_found_out() {
    let (recipients, identities) = key();
    let whole = encrypted(&sample(3 * CHUNK as usize + 10), &recipients);
    let start = whole.len() - (3 * CHUNK as usize + 10) - 4 * TAG as usize;
    // At the end of a piece, within one, in the header, and nothing but the magic.
    for len in [start + 2 * (CHUNK + TAG) as usize, whole.len() - 1, start, start - 20, MAGIC.len()] {
        let problem = opened(whole[..len].to_vec(), &identities).err().unwrap();
        assert_eq!((problem.kind, problem.code), (Kind::Invalid, "encrypted_damaged"), "{len}");
    }
    let mut changed = whole.clone();
    changed[start + (CHUNK + TAG) as usize + 100] ^= 1;
    let read = opened(changed, &identities).unwrap();
    read.read_at(0, CHUNK as usize).unwrap();
    for offset in [CHUNK + 5, CHUNK] {
        assert_eq!(problem_of(read.read_at(offset, 10).unwrap_err()).code, "encrypted_damaged", "{offset}");
    }
    for at in [MAGIC.len() + 20, start - 17] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        assert!(opened(changed, &identities).is_err(), "{at}");
    }
}

#[test]
fn a_header_without_an_end_is_refused() {
    let (_, identities) = key();
    let mut bytes = MAGIC.to_vec();
    while bytes.len() < 4 << 20 {
        bytes.extend_from_slice(b"-> X25519 abc\n");
    }
    assert_eq!(opened(bytes, &identities).err().unwrap().code, "encrypted_damaged");
}

#[test]
fn without_the_right_key_it_is_said_which_one_is_missing() {
    let (recipients, identities) = key();
    let bytes = encrypted(b"content", &recipients);
    let code = |identities: &Identities| opened(bytes.clone(), identities).err().map(|problem| problem.code);
    assert_eq!(code(&Identities::default()), Some("encrypted"));
    assert_eq!(code(&key().1), Some("wrong_identity"));
    let both = Identities::from([key().1.keys, identities.keys.clone()].concat());
    assert_eq!(code(&both), None);
    let armored = [ARMOR, b"\n".as_slice(), &bytes].concat();
    assert_eq!(opened(armored, &identities).err().unwrap().code, "encrypted_text");
    let (plain, was) = open(Arc::new(b"PK\x03\x04".to_vec()), "b.zip", &identities).unwrap();
    assert_eq!((plain.size(), was), (4, false));
}

#[test]
fn keys_come_from_files_of_age_keygen_and_are_never_shown() {
    let (recipients, identities) = key();
    let secret = identities.keys[0].expose_secret().to_owned();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("# created: now\n# public key: x\n{secret}\n")).unwrap();
    let read = Identities::read([file.path()]).unwrap();
    assert!(opened(encrypted(b"content", &recipients), &read).is_ok());
    assert!(!format!("{read:?}").contains(&secret));
    let wire = serde_json::to_string(&read).unwrap();
    let again: Identities = serde_json::from_str(&wire).unwrap();
    assert!(opened(encrypted(b"content", &recipients), &again).is_ok());

    for content in ["", "# nothing\n", "AGE-SECRET-KEY-1GEHEIM\n"] {
        std::fs::write(file.path(), content).unwrap();
        let problem = Identities::read([file.path()]).unwrap_err();
        assert_eq!((problem.kind, problem.code), (Kind::Denied, "identity_unreadable"));
        assert!(!format!("{problem:?}").contains("GEHEIM"));
    }
    let problem = Recipients::parse(std::slice::from_ref(&secret)).unwrap_err();
    assert_eq!(problem.code, "invalid_recipient");
    assert!(!format!("{problem:?}").contains(&secret));
}

#[test]
fn as_many_recipients_as_are_written_can_read_and_more_are_refused() {
    let (last, identities) = key();
    let keys = (1..MOST_RECIPIENTS).map(|_| x25519::Identity::generate().to_public().to_string());
    let keys: Vec<String> = keys.chain(last.0).collect();
    let written = encrypted(b"content", &Recipients::parse(&keys).unwrap());
    let read = opened(written, &identities).unwrap();
    assert_eq!(read.read_at(0, 7).unwrap(), b"content");
    let more = [&keys[..], &keys[..1]].concat();
    assert_eq!(Recipients::parse(&more).unwrap_err().code, "too_many_recipients");
}

#[test]
fn who_wrote_a_file_reads_it_back_and_no_other() {
    let (recipients, identities) = key();
    let plain = sample(200_000);
    let mut out = Outgoing::new(Vec::new(), &recipients).unwrap();
    let read_back = out.read_back();
    out.write_all(&plain).unwrap();
    let bytes = out.finish().unwrap();
    for keys in [&read_back, &identities] {
        let read = opened(bytes.clone(), keys).unwrap();
        assert!(read.read_at(0, plain.len()).unwrap() == plain);
    }
    assert!(opened(encrypted(&plain, &recipients), &read_back).is_err());
    assert_eq!(serde_json::to_string(&read_back).unwrap(), "[]");
}
