//! Attachments as a dump has them: which files the rows of `ir_attachment` name.
//!
//! Read from the rows of the dump itself, so that files can be matched without a database. Rows come in
//! pieces of any size and may hold megabytes of text; only the few columns that matter are kept, and
//! never more of a value than a path or a name needs.

use crate::dump::statement::{Classified, classify};

/// Longer values of a column that matters are cut off; none that is understood is as long.
const MOST: usize = 1024;

/// One row that names a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachmentRow {
    /// `id`; 0 where it cannot be read.
    pub id: i64,
    /// `name`, or nothing.
    pub name: String,
    /// `store_fname` as it stands.
    pub store_fname: String,
    /// SHA-1 in `store_fname`; none where a module keeps the file elsewhere.
    pub hash: Option<[u8; 20]>,
    /// `checksum`, where there is one.
    pub checksum: Option<String>,
    /// `file_size`, where there is one.
    pub size: Option<u64>,
}

/// What a row says of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// They are in a file.
    File(AttachmentRow),
    /// They are in the database.
    InDatabase,
    /// There are none: a link, or an empty one.
    Nothing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Id,
    Name,
    Type,
    StoreFname,
    Checksum,
    FileSize,
    /// Only whether there is a value.
    DbDatas,
    Other,
}

/// Values of the row at hand that matter; none is NULL.
#[derive(Debug, Default)]
struct Row {
    id: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    kind: Option<Vec<u8>>,
    store_fname: Option<Vec<u8>>,
    checksum: Option<Vec<u8>>,
    size: Option<Vec<u8>>,
    db_datas: Option<Vec<u8>>,
}

/// Takes the `COPY` block of `ir_attachment` apart.
pub struct AttachmentRows {
    columns: Vec<Column>,
    /// Index of the column that is being read.
    at: usize,
    /// Its value so far, as the dump escapes it.
    value: Vec<u8>,
    row: Row,
}

impl AttachmentRows {
    /// A reader of the rows that follow this `COPY`; none if it is of another table.
    pub fn of(copy: &str) -> Option<Self> {
        let Ok(Classified::Copy { table, columns }) = classify(copy) else { return None };
        let schema = table.schema.as_deref().unwrap_or("public");
        if (schema, &*table.name) != ("public", "ir_attachment") {
            return None;
        }
        let column = |name: &String| match &**name {
            "id" => Column::Id,
            "name" => Column::Name,
            "type" => Column::Type,
            "store_fname" => Column::StoreFname,
            "checksum" => Column::Checksum,
            "file_size" => Column::FileSize,
            "db_datas" => Column::DbDatas,
            _ => Column::Other,
        };
        let columns = columns.iter().map(column).collect();
        Some(Self { columns, at: 0, value: Vec::new(), row: Row::default() })
    }

    /// Takes the next bytes of the rows, and tells each row that ends in them.
    pub fn take(&mut self, mut bytes: &[u8], tell: &mut dyn FnMut(Attachment)) {
        while !bytes.is_empty() {
            // Tabs and line feeds within values are escaped.
            let end = memchr::memchr2(b'\t', b'\n', bytes).unwrap_or(bytes.len());
            let column = self.columns.get(self.at).copied().unwrap_or(Column::Other);
            if column != Column::Other {
                let room = MOST.saturating_sub(self.value.len());
                self.value.extend(&bytes[..end.min(room)]);
            }
            match bytes.get(end) {
                None => return,
                Some(separator) => {
                    self.end_value(column);
                    self.at += 1;
                    if *separator == b'\n' {
                        self.at = 0;
                        tell(std::mem::take(&mut self.row).meaning());
                    }
                }
            }
            bytes = &bytes[end + 1..];
        }
    }

    fn end_value(&mut self, column: Column) {
        let value = unescaped(&self.value);
        self.value.clear();
        let place = match column {
            Column::Id => &mut self.row.id,
            Column::Name => &mut self.row.name,
            Column::Type => &mut self.row.kind,
            Column::StoreFname => &mut self.row.store_fname,
            Column::Checksum => &mut self.row.checksum,
            Column::FileSize => &mut self.row.size,
            Column::DbDatas => &mut self.row.db_datas,
            Column::Other => return,
        };
        *place = value;
    }
}

impl Row {
    fn meaning(self) -> Attachment {
        let text = |value: Option<Vec<u8>>| value.map(|value| String::from_utf8_lossy(&value).into_owned());
        if self.kind.as_deref() != Some(b"binary") {
            return Attachment::Nothing;
        }
        let Some(store_fname) = text(self.store_fname) else {
            return match self.db_datas {
                Some(_) => Attachment::InDatabase,
                None => Attachment::Nothing,
            };
        };
        Attachment::File(AttachmentRow {
            id: text(self.id).and_then(|id| id.parse().ok()).unwrap_or_default(),
            name: text(self.name).unwrap_or_default(),
            hash: hash_of(&store_fname),
            store_fname,
            checksum: text(self.checksum),
            size: text(self.size).and_then(|size| size.parse().ok()),
        })
    }
}

/// The hash in a `store_fname` of Odoo's own form, `<2 hex>/<40 hex>`.
pub fn hash_of(store_fname: &str) -> Option<[u8; 20]> {
    let (folder, hash) = store_fname.split_once('/')?;
    let lower = hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; 20];
    (lower && hash.get(..2) == Some(folder)).then_some(())?;
    hex::decode_to_slice(hash, &mut bytes).ok()?;
    Some(bytes)
}

/// The path below a filestore of a file with this hash.
pub fn store_fname(hash: &[u8; 20]) -> String {
    let digits = hex::encode(hash);
    format!("{}/{digits}", &digits[..2])
}

/// A value of COPY's text format; none for NULL.
fn unescaped(value: &[u8]) -> Option<Vec<u8>> {
    if value == br"\N" {
        return None;
    }
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'b') => 8,
                Some(b'f') => 12,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'v') => 11,
                Some(other) => *other,
                None => break,
            },
            other => *other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPY: &str = "COPY public.ir_attachment (id, name, index_content, type, store_fname, file_size, checksum, db_datas) FROM stdin;";
    const HASH: &str = "b15835fdac8df7a502d7203681ca1b44866be2ce";

    fn all(rows: &str, piece: usize) -> Vec<Attachment> {
        let mut found = Vec::new();
        let mut reader = AttachmentRows::of(COPY).unwrap();
        for piece in rows.as_bytes().chunks(piece) {
            reader.take(piece, &mut |attachment| found.push(attachment));
        }
        found
    }

    #[test]
    fn rows_are_understood_however_they_are_cut() {
        let long = "x".repeat(5000);
        let rows = format!(
            "7\ta\\tb\\\\c\t{long}\tbinary\tb1/{HASH}\t17\t{HASH}\t\\N\n\
             8\t\\N\t\\N\turl\t\\N\t\\N\t\\N\t\\N\n\
             9\td\t\\N\tbinary\t\\N\t3\t\\N\t\\\\x616263\n\
             10\te\t\\N\tbinary\ts3://bucket/x\t\\N\t\\N\t\\N\n"
        );
        for piece in [1, 2, 7, 4096, 1 << 20] {
            let found = all(&rows, piece);
            assert_eq!(found.len(), 4);
            let Attachment::File(file) = &found[0] else { panic!("{found:?}") };
            assert_eq!((file.id, &*file.name, file.size), (7, "a\tb\\c", Some(17)));
            assert_eq!(file.hash.map(|hash| store_fname(&hash)).as_deref(), Some(&*format!("b1/{HASH}")));
            assert_eq!(file.checksum.as_deref(), Some(HASH));
            assert_eq!(found[1..3], [Attachment::Nothing, Attachment::InDatabase]);
            assert!(matches!(&found[3], Attachment::File(file) if file.hash.is_none()));
        }
    }

    #[test]
    fn rows_of_another_table_are_not_taken() {
        assert!(AttachmentRows::of("COPY public.res_users (id) FROM stdin;").is_none());
        assert!(AttachmentRows::of("COPY other.ir_attachment (id) FROM stdin;").is_none());
    }

    #[test]
    fn only_odoos_own_form_of_store_fname_is_a_hash() {
        assert!(hash_of(&format!("b1/{HASH}")).is_some());
        for name in [HASH, "b1/x", &format!("b2/{HASH}"), &format!("b1/{}", HASH.to_uppercase()), "", "é/x"]
        {
            assert!(hash_of(name).is_none(), "{name}");
        }
    }
}
