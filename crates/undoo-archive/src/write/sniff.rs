//! Which contents are compressed already. Trying again costs time and gains nothing.
//!
//! Told by content, since a file of a filestore has no name; a wrong guess costs space or time only. What
//! begins like none of these is tried by pieces, block by block (`deflate.rs`).

/// First bytes of formats that are compressed throughout, or nearly.
const COMPRESSED: &[&[u8]] = &[
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    // ZIP, and with it the documents of office programs.
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"BZh",
    b"\xfd7zXZ\0",
    b"\x28\xb5\x2f\xfd",
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"%PDF-",
    b"OggS",
    b"fLaC",
    b"ID3",
    // MP3 without a tag.
    b"\xff\xfb",
    // Matroska and WebM.
    b"\x1a\x45\xdf\xa3",
    b"wOFF",
    b"wOF2",
];

/// Whether content that begins so is compressed already.
pub(super) fn is_compressed(head: &[u8]) -> bool {
    let at = |from: usize, magic: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(magic));
    COMPRESSED.iter().any(|magic| head.starts_with(magic))
        || (at(0, b"RIFF") && at(8, b"WEBP"))
        // MP4, HEIC, AVIF.
        || at(4, b"ftyp")
}

#[cfg(test)]
mod tests {
    use super::is_compressed;

    #[test]
    fn pictures_archives_and_documents_are_known_and_text_is_not() {
        for head in
            [&b"\x89PNG\r\n\x1a\n...."[..], b"RIFF\0\0\0\0WEBPVP8 ", b"%PDF-1.7", b"\0\0\0\x20ftypisom"]
        {
            assert!(is_compressed(head), "{head:?}");
        }
        for head in [&b""[..], b"P", b"RIFF\0\0\0\0WAVE", b"<svg", b"id,name\n", b"BM"] {
            assert!(!is_compressed(head), "{head:?}");
        }
    }
}
