//! Writes custom archives by hand, for what no `pg_dump` would write.

use std::io::Write;

use undoo_archive::dump::{DumpEvent, DumpStream, custom::CustomDump};
use undoo_core::Problem;

pub(crate) const NONE: u8 = 0;
pub(crate) const GZIP: u8 = 1;
pub(crate) const LZ4: u8 = 2;
pub(crate) const ZSTD: u8 = 3;

pub(crate) const NO_SECTION: i64 = 1;
pub(crate) const PRE_DATA: i64 = 2;
pub(crate) const DATA: i64 = 3;

/// An integer as the archiver writes it, in four bytes.
pub(crate) fn int(value: i64) -> Vec<u8> {
    let mut bytes = vec![u8::from(value < 0)];
    bytes.extend_from_slice(&u32::try_from(value.abs()).unwrap().to_le_bytes());
    bytes
}

pub(crate) fn string(text: Option<&[u8]>) -> Vec<u8> {
    let Some(text) = text else { return int(-1) };
    let mut bytes = int(text.len() as i64);
    bytes.extend_from_slice(text);
    bytes
}

/// One entry of the table of contents.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) id: i64,
    pub(crate) dumper: bool,
    pub(crate) desc: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) section: i64,
    pub(crate) defn: Vec<u8>,
    pub(crate) drop_stmt: &'static str,
    pub(crate) copy: &'static str,
    pub(crate) schema: Option<&'static str>,
    pub(crate) owner: &'static str,
    pub(crate) with_oids: bool,
    pub(crate) depends: Vec<&'static str>,
}

pub(crate) fn entry(id: i64, desc: &'static str, tag: &'static str, defn: impl AsRef<[u8]>) -> Entry {
    Entry {
        id,
        dumper: false,
        desc,
        tag,
        section: PRE_DATA,
        defn: defn.as_ref().to_vec(),
        drop_stmt: "",
        copy: "",
        schema: None,
        owner: "",
        with_oids: false,
        depends: Vec::new(),
    }
}

pub(crate) fn table_data(id: i64, copy: &'static str) -> Entry {
    Entry { dumper: true, section: DATA, copy, ..entry(id, "TABLE DATA", "t", "") }
}

/// An archive in the making.
#[derive(Clone)]
pub(crate) struct Craft {
    pub(crate) version: (u8, u8, u8),
    pub(crate) format: u8,
    pub(crate) compression: u8,
    pub(crate) entries: Vec<Entry>,
    pub(crate) blocks: Vec<u8>,
}

impl Craft {
    pub(crate) fn new(compression: u8) -> Self {
        let entries = vec![
            entry(1, "ENCODING", "ENCODING", "SET client_encoding = 'UTF8';\n"),
            entry(2, "STDSTRINGS", "STDSTRINGS", "SET standard_conforming_strings = 'on';\n"),
            entry(3, "SEARCHPATH", "SEARCHPATH", "SELECT pg_catalog.set_config('search_path', '', false);\n"),
        ];
        Self { version: (1, 16, 0), format: 1, compression, entries, blocks: Vec::new() }
    }

    pub(crate) fn with(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// A table's rows and their block.
    pub(crate) fn with_rows(self, id: i64, rows: &[u8]) -> Self {
        let bytes = [rows, b"\\.\n\n\n"].concat();
        self.with(table_data(id, "COPY public.t (a) FROM stdin;\n")).with_block(id, &bytes)
    }

    pub(crate) fn with_block(mut self, id: i64, content: &[u8]) -> Self {
        self.blocks.push(1);
        self.blocks.extend(int(id));
        self.blocks.extend(chunks(&compress(self.compression, content), 4096));
        self
    }

    /// Large objects and their block.
    pub(crate) fn with_large_objects(mut self, id: i64, objects: &[(i64, &[u8])]) -> Self {
        self.entries.push(Entry { dumper: true, section: DATA, ..entry(id, "BLOBS", "BLOBS", "") });
        self.blocks.push(3);
        self.blocks.extend(int(id));
        for (oid, content) in objects {
            self.blocks.extend(int(*oid));
            self.blocks.extend(chunks(&compress(self.compression, content), 1000));
        }
        self.blocks.extend(int(0));
        self
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let (major, minor, revision) = self.version;
        let mut bytes = b"PGDMP".to_vec();
        bytes.extend([major, minor, revision, 4, 8, self.format]);
        if (major, minor) >= (1, 15) {
            bytes.push(self.compression);
        } else {
            bytes.extend(int(if self.compression == NONE { 0 } else { -1 }));
        }
        for part in [1, 2, 3, 4, 5, 126, 0] {
            bytes.extend(int(part));
        }
        for text in ["crafted", "15.4", "17.1"] {
            bytes.extend(string(Some(text.as_bytes())));
        }
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.extend(int(self.entries.len() as i64));
        for entry in &self.entries {
            bytes.extend(self.entry(entry));
        }
        bytes.extend_from_slice(&self.blocks);
        bytes
    }

    fn entry(&self, entry: &Entry) -> Vec<u8> {
        let minor = self.version.1;
        let text = |text: &str| string(Some(text.as_bytes()));
        let mut bytes = [int(entry.id), int(i64::from(entry.dumper)), text("0"), text("0")].concat();
        bytes.extend([text(entry.tag), text(entry.desc), int(entry.section)].concat());
        bytes.extend([string(Some(&entry.defn)), text(entry.drop_stmt), text(entry.copy)].concat());
        bytes.extend([string(entry.schema.map(str::as_bytes)), string(None)].concat());
        if minor >= 14 {
            bytes.extend(string(None));
        }
        if minor >= 16 {
            bytes.extend(int(0));
        }
        bytes.extend([text(entry.owner), text(if entry.with_oids { "true" } else { "false" })].concat());
        for id in &entry.depends {
            bytes.extend(text(id));
        }
        bytes.extend(string(None));
        bytes.push(if entry.dumper { 1 } else { 3 });
        bytes.extend([0; 8]);
        bytes
    }
}

pub(crate) fn compress(compression: u8, content: &[u8]) -> Vec<u8> {
    match compression {
        GZIP => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        LZ4 => {
            // Blocks that refer to the ones before, as pg_dump's do.
            let mut info = lz4_flex::frame::FrameInfo::new();
            info.block_mode = lz4_flex::frame::BlockMode::Linked;
            info.block_size = lz4_flex::frame::BlockSize::Max64KB;
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        ZSTD => zstd::encode_all(content, 1).unwrap(),
        _ => content.to_vec(),
    }
}

/// Bytes as chunks of at most `size`, and the empty one that ends them.
pub(crate) fn chunks(content: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in content.chunks(size) {
        bytes.extend(int(chunk.len() as i64));
        bytes.extend_from_slice(chunk);
    }
    bytes.extend(int(0));
    bytes
}

/// All events of an archive, or the first problem.
pub(crate) fn read(bytes: impl Into<Vec<u8>>) -> Result<Vec<DumpEvent>, Problem> {
    let mut dump = CustomDump::open(Box::new(std::io::Cursor::new(bytes.into())))?;
    let mut events = Vec::new();
    while let Some(event) = dump.next_event()? {
        events.push(event);
    }
    Ok(events)
}

/// The statements of an archive that only has such, without the preamble.
pub(crate) fn statements(craft: &Craft) -> Vec<String> {
    let events = read(craft.bytes()).unwrap();
    let statements = events.into_iter().filter_map(|event| match event {
        DumpEvent::Statement(statement) => Some(statement.sql),
        _ => None,
    });
    statements.skip_while(|sql| sql != "SET row_security = off;").skip(1).collect()
}
