//! Buckets of S3 and what speaks its protocol: AWS, Cloudflare R2, Backblaze B2, MinIO, SeaweedFS.
//!
//! Requests are built here and signed by a library; they go through our own client, since what we need of
//! S3 is what libraries hide: the server's error codes, the count of requests, parts that are ours to size
//! and to abort. Nothing here repeats a request. <https://docs.aws.amazon.com/AmazonS3/latest/API/>

mod upload;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest, time::Timestamp};
use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_LENGTH, DATE, ETAG, HOST, HeaderMap, HeaderName, LAST_MODIFIED},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use undoo_core::{Kind, Problem, Result};

use crate::{
    access::{Provider, S3Access},
    client::{Client, Redirects, classify, refusal, text},
    fault::{Cause, Doing, Fault},
    folder::{Entry, LIST_LIMIT, too_many_entries},
    http_source::HttpSource,
    lock::{ObjectLock, RETAIN_UNTIL},
    object::Object,
    options::Options,
    resume::{Source, Version, retrying},
    storage::{Stat, Storage, Unfinished, check_key, check_prefix},
    upload::Upload,
};

/// What is left as it is in a path and in a query, so that what is signed is what is sent:
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
const LEGAL_HOLD: HeaderName = HeaderName::from_static("x-amz-object-lock-legal-hold");
const PATH: &AsciiSet = &PART.remove(b'/');

/// Signs requests with a key.
pub(crate) struct Signer {
    signer: RequestSigner,
    credential: Credential,
}

impl Signer {
    /// Signs a request in its headers; the content stays out of the signature.
    pub(crate) async fn sign(&self, request: &mut reqwest::Request) -> Result<(), Fault> {
        let mut parts = self.parts(request.method().clone(), request.url())?;
        parts.headers = std::mem::take(request.headers_mut());
        self.apply(&mut parts, None).await?;
        // The client writes it itself.
        parts.headers.remove(HOST);
        *request.headers_mut() = parts.headers;
        Ok(())
    }

    async fn presign(&self, url: &Url, expires: Duration) -> Result<SecretString, Fault> {
        let mut parts = self.parts(Method::GET, url)?;
        self.apply(&mut parts, Some(expires)).await?;
        Ok(parts.uri.to_string().into())
    }

    async fn apply(&self, parts: &mut http::request::Parts, expires: Option<Duration>) -> Result<(), Fault> {
        let context = Context::new();
        let signed = self.signer.sign_request(&context, parts, Some(&self.credential), expires);
        signed.await.map_err(|error| Fault::unexpected(format!("the request could not be signed: {error}")))
    }

    fn parts(&self, method: Method, url: &Url) -> Result<http::request::Parts, Fault> {
        let request = http::Request::builder().method(method).uri(url.as_str()).body(());
        let (parts, ()) = request
            .map_err(|error| Fault::unexpected(format!("its address is invalid: {error}")))?
            .into_parts();
        Ok(parts)
    }
}

/// A bucket with the means to use it, from a prefix on.
#[derive(Clone)]
pub(crate) struct S3Storage {
    client: Client,
    signer: Arc<Signer>,
    /// The bucket itself; its path ends in a slash.
    base: Url,
    /// Empty, or ending in a slash.
    prefix: String,
    place: String,
    provider: Provider,
    lock: Option<ObjectLock>,
    options: Options,
}

/// A legal hold has no end.
const HOLD: Duration = Duration::from_secs(1000 * 365 * 24 * 3600);

impl S3Storage {
    /// The part of the bucket under `prefix`, which is empty or ends in a slash; `place` is its address.
    pub(crate) fn new(access: &S3Access, prefix: String, place: String, options: &Options) -> Result<Self> {
        let base = access.bucket_url()?;
        let credentials = &access.credentials;
        let credential = Credential {
            access_key_id: credentials.access_key_id.clone(),
            secret_access_key: credentials.secret_access_key.expose_secret().to_owned(),
            session_token: credentials.session_token.as_ref().map(|token| token.expose_secret().to_owned()),
            expires_in: None,
        };
        let signer = RequestSigner::new("s3", access.region());
        Ok(Self {
            client: Client::new(options, Redirects::Refuse)?,
            signer: Arc::new(Signer { signer, credential }),
            base,
            prefix,
            place,
            provider: access.provider,
            lock: access.lock,
            options: options.clone(),
        })
    }

    fn url(&self, key: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        let key = format!("{}{key}", self.prefix);
        url.set_path(&format!("{}{}", self.base.path(), utf8_percent_encode(&key, PATH)));
        self.with_query(url, query)
    }

    fn bucket_url(&self, query: &[(&str, &str)]) -> Url {
        self.with_query(self.base.clone(), query)
    }

    fn with_query(&self, mut url: Url, query: &[(&str, &str)]) -> Url {
        let encoded = |text| utf8_percent_encode(text, PART);
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        url.set_query((!pairs.is_empty()).then(|| pairs.join("&")).as_deref());
        url
    }

    /// Signs and sends a request without content, and takes anything but success for a refusal.
    async fn send(&self, method: Method, url: Url) -> Result<reqwest::Response, Fault> {
        let mut request = reqwest::Request::new(method, url);
        self.signer.sign(&mut request).await?;
        accepted(self.client.send(request).await?).await
    }

    fn source(&self, key: &str) -> HttpSource {
        HttpSource {
            client: self.client.clone(),
            url: self.url(key, &[]),
            signer: Some(Arc::clone(&self.signer)),
        }
    }

    async fn version(&self, key: &str) -> Result<Version, Fault> {
        let source = self.source(key);
        let request = || async {
            let version = source.version().await?;
            // The answer to a range of nothing has neither tag nor time.
            if version.size == 0 { self.head(key).await } else { Ok(version) }
        };
        let version = retrying(&self.client.seen, &self.place_of(key), &self.options, request).await?;
        if version.etag.is_none() {
            return Err(Fault::unexpected("the server does not tell versions of an object apart (no ETag)"));
        }
        Ok(version)
    }

    async fn head(&self, key: &str) -> Result<Version, Fault> {
        let answer = self.send(Method::HEAD, self.url(key, &[])).await?;
        let header = |name| text(answer.headers(), name);
        let size = header(CONTENT_LENGTH).and_then(|size| size.parse().ok()).unwrap_or(0);
        Ok(Version { size, etag: header(ETAG), last_modified: header(LAST_MODIFIED) })
    }

    async fn page(&self, prefix: &str, from: Option<&str>, most: &str) -> Result<ListBucketResult, Fault> {
        let prefix = format!("{}{prefix}", self.prefix);
        let mut query = vec![("list-type", "2"), ("max-keys", most), ("prefix", &*prefix)];
        query.extend(from.map(|from| ("continuation-token", from)));
        let answer = self.send(Method::GET, self.bucket_url(&query)).await?;
        parsed(&self.client.text(answer).await?)
    }

    /// Whether anything lies here.
    pub(crate) async fn is_empty(&self) -> Result<bool, Fault> {
        let request = || self.page("", None, "1");
        let page = retrying(&self.client.seen, &self.place, &self.options, request).await?;
        Ok(page.contents.is_empty())
    }

    /// Unfinished uploads of keys that begin with `prefix`, which counts from the root of this storage.
    async fn uploads(&self, prefix: &str) -> Result<Vec<Unfinished>, Fault> {
        let prefix = format!("{}{prefix}", self.prefix);
        let (mut found, mut from) = (Vec::new(), (String::new(), String::new()));
        loop {
            let mut query = vec![("uploads", ""), ("prefix", &*prefix)];
            if !from.0.is_empty() {
                query.extend([("key-marker", &*from.0), ("upload-id-marker", &*from.1)]);
            }
            let answer = self.send(Method::GET, self.bucket_url(&query)).await?;
            let page: ListMultipartUploadsResult = parsed(&self.client.text(answer).await?)?;
            found.extend(page.upload.into_iter().filter_map(|upload| {
                let key = upload.key.strip_prefix(&self.prefix)?.to_owned();
                let started = upload.initiated.parse::<Timestamp>().ok();
                let started = started.map(|started| started.as_system_time());
                Some(Unfinished { key, id: upload.upload_id, started })
            }));
            let next = (page.next_key_marker, page.next_upload_id_marker);
            if !page.is_truncated || next.0.is_empty() || next == from || found.len() > LIST_LIMIT {
                return Ok(found);
            }
            from = next;
        }
    }

    /// The parts of an unfinished upload that have arrived, by their numbers.
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html>
    async fn parts(&self, key: &str, id: &str) -> Result<Vec<ListedPart>, Fault> {
        let (mut found, mut from) = (Vec::new(), 0);
        loop {
            let query = [("uploadId", id), ("part-number-marker", &*from.to_string())];
            let answer = self.send(Method::GET, self.url(key, &query)).await?;
            let page: ListPartsResult = parsed(&self.client.text(answer).await?)?;
            found.extend(page.part);
            let next = page.next_part_number_marker.filter(|next| page.is_truncated && *next > from);
            let Some(next) = next else { return Ok(found) };
            from = next;
        }
    }

    async fn abort(&self, key: &str, id: &str) -> Result<(), Fault> {
        match self.send(Method::DELETE, self.url(key, &[("uploadId", id)])).await {
            Ok(_) => Ok(()),
            Err(Fault { cause: Cause::UploadGone, .. }) => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

/// Turns a refusal into a fault.
async fn accepted(response: reqwest::Response) -> Result<reqwest::Response, Fault> {
    if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
}

fn parsed<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Fault> {
    quick_xml::de::from_str(text).map_err(|error| Fault {
        detail: error.to_string(),
        ..Fault::unexpected("the server's answer is not what S3 answers")
    })
}

fn stat_of(version: Version) -> Stat {
    let modified = version.last_modified.as_deref().and_then(|date| httpdate::parse_http_date(date).ok());
    Stat { size: version.size, version: version.etag, modified }
}

#[async_trait]
impl Storage for S3Storage {
    fn place(&self) -> &str {
        &self.place
    }

    fn options(&self) -> &Options {
        &self.options
    }

    fn write(&self, key: &str, expected: Option<u64>) -> Result<Upload> {
        check_key(key)?;
        let sink = upload::S3Upload::new(self.clone(), key, expected);
        let (place, seen) = (self.place_of(key), self.client.seen.clone());
        Ok(Upload::new(Arc::new(sink), place, self.options.clone(), seen))
    }

    async fn resume(&self, key: &str, id: &str, expected: Option<u64>) -> Result<Upload> {
        check_key(key)?;
        let (place, seen) = (self.place_of(key), self.client.seen.clone());
        let request = || upload::S3Upload::resumed(self.clone(), key, id, expected);
        let resumed = retrying(&seen, &place, &self.options, request).await;
        let (sink, sent) = resumed.map_err(|fault| fault.into_problem(Doing::Write, &place))?;
        Ok(Upload::resumed(Arc::new(sink), place, self.options.clone(), seen, sent))
    }

    async fn stat(&self, key: &str) -> Result<Option<Stat>> {
        check_key(key)?;
        match self.version(key).await {
            Ok(version) => Ok(Some(stat_of(version))),
            Err(Fault { cause: Cause::ObjectMissing, .. }) => Ok(None),
            Err(fault) => Err(fault.into_problem(Doing::Read, &self.place_of(key))),
        }
    }

    async fn open(&self, key: &str) -> Result<Arc<Object>> {
        check_key(key)?;
        let place = self.place_of(key);
        let version = self.version(key).await;
        let version = version.map_err(|fault| fault.into_problem(Doing::Read, &place))?;
        Ok(Arc::new(Object::remote(place, version, Box::new(self.source(key)), &self.options)))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        check_prefix(prefix)?;
        let place = self.place_of(prefix);
        let (mut entries, mut from) = (Vec::new(), None::<String>);
        loop {
            let request = || self.page(prefix, from.as_deref(), "1000");
            let page = retrying(&self.client.seen, &place, &self.options, request).await;
            let page = page.map_err(|fault| fault.into_problem(Doing::List, &place))?;
            entries.extend(page.contents.into_iter().filter_map(|found| {
                // Keys that end in a slash stand for folders; they have no content.
                let name = found.key.strip_prefix(&self.prefix).filter(|name| !name.ends_with('/'))?;
                Some(Entry { name: name.to_owned(), size: found.size })
            }));
            if entries.len() > LIST_LIMIT {
                return Err(too_many_entries(&place));
            }
            let next = page.next_continuation_token.filter(|_| page.is_truncated);
            if next.is_none() || next == from {
                break;
            }
            from = next;
        }
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        check_key(key)?;
        let place = self.place_of(key);
        let request = || async {
            match self.send(Method::DELETE, self.url(key, &[])).await {
                Ok(_) | Err(Fault { cause: Cause::ObjectMissing, .. }) => Ok(()),
                Err(fault) => Err(fault),
            }
        };
        let removed = retrying(&self.client.seen, &place, &self.options, request).await;
        removed.map_err(|fault| fault.into_problem(Doing::Delete, &place))
    }

    async fn presign(&self, key: &str, expires: Duration) -> Result<Option<SecretString>> {
        check_key(key)?;
        let signed = self.signer.presign(&self.url(key, &[]), expires).await;
        signed.map(Some).map_err(|fault| fault.into_problem(Doing::Read, &self.place_of(key)))
    }

    async fn locked_until(&self, key: &str) -> Result<Option<SystemTime>> {
        check_key(key)?;
        let place = self.place_of(key);
        let request = || self.send(Method::HEAD, self.url(key, &[]));
        let answer = retrying(&self.client.seen, &place, &self.options, request).await;
        let answer = answer.map_err(|fault| fault.into_problem(Doing::Read, &place))?;
        if text(answer.headers(), LEGAL_HOLD).is_some_and(|hold| hold == "ON") {
            return Ok(Some(SystemTime::now() + HOLD));
        }
        let until = text(answer.headers(), RETAIN_UNTIL).and_then(|until| until.parse::<Timestamp>().ok());
        Ok(until.map(|until| until.as_system_time()))
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLockConfiguration.html>
    async fn check_lock(&self) -> Result<bool> {
        if self.lock.is_none() {
            return Ok(false);
        }
        let request = || self.send(Method::GET, self.bucket_url(&[("object-lock", "")]));
        let answer = retrying(&self.client.seen, &self.place, &self.options, request).await;
        // A bucket without a configuration is not missing, and neither is a server's whole Object Lock.
        let answer = answer.map_err(|fault| match fault.cause {
            Cause::ObjectMissing | Cause::Unexpected { .. } => Fault { cause: Cause::NoObjectLock, ..fault },
            _ => fault,
        });
        answer.map(|_| true).map_err(|fault| fault.into_problem(Doing::Write, &self.place))
    }

    async fn unfinished(&self, prefix: &str) -> Result<Vec<Unfinished>> {
        if !prefix.is_empty() {
            check_key(prefix.trim_end_matches('/'))?;
        }
        let place = self.place_of(prefix);
        let found = retrying(&self.client.seen, &place, &self.options, || self.uploads(prefix)).await;
        found.map_err(|fault| fault.into_problem(Doing::List, &place))
    }

    async fn discard(&self, unfinished: &Unfinished) -> Result<()> {
        let place = self.place_of(&unfinished.key);
        let request = || self.abort(&unfinished.key, &unfinished.id);
        let removed = retrying(&self.client.seen, &place, &self.options, request).await;
        removed.map_err(|fault| fault.into_problem(Doing::Delete, &place))
    }
}

impl S3Access {
    /// Where requests about the bucket go: the bucket in the path, or before the host's name.
    pub(crate) fn bucket_url(&self) -> Result<Url> {
        let wrong = |why: &str| {
            Problem::new(
                Kind::Invalid,
                "storage_settings",
                format!("the settings for bucket {} do not fit together: {why}", self.bucket),
                "Check the bucket's name, the endpoint and the region.",
            )
        };
        let endpoint = self.endpoint().ok_or_else(|| wrong("it needs an endpoint"))?;
        let mut url = Url::parse(&endpoint).map_err(|_| wrong("the endpoint is not an address"))?;
        let host = url.host_str().unwrap_or_default().to_owned();
        if !matches!(url.scheme(), "http" | "https") || host.is_empty() || !url.username().is_empty() {
            return Err(wrong("the endpoint is not of the form https://host"));
        }
        url.set_query(None);
        url.set_fragment(None);
        let path = url.path().trim_end_matches('/').to_owned();
        if self.path_style() {
            url.set_path(&format!("{path}/{}/", self.bucket));
        } else {
            url.set_host(Some(&format!("{}.{host}", self.bucket))).map_err(|_| wrong("no such host"))?;
            url.set_path(&format!("{path}/"));
        }
        Ok(url)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListBucketResult {
    #[serde(default)]
    is_truncated: bool,
    next_continuation_token: Option<String>,
    #[serde(default)]
    contents: Vec<Contents>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Contents {
    key: String,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct ListMultipartUploadsResult {
    is_truncated: bool,
    next_key_marker: String,
    next_upload_id_marker: String,
    upload: Vec<ListedUpload>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedUpload {
    key: String,
    upload_id: String,
    #[serde(default)]
    initiated: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ListPartsResult {
    is_truncated: bool,
    next_part_number_marker: Option<u32>,
    part: Vec<ListedPart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedPart {
    part_number: u32,
    #[serde(rename = "ETag")]
    e_tag: String,
    size: u64,
}

/// The time by the server's clock, from any of its answers.
fn server_time(response: &reqwest::Response) -> Option<SystemTime> {
    let date = text(response.headers(), DATE)?;
    httpdate::parse_http_date(&date).ok()
}

/// Whether an answer says that it worked, in status and in text: some begin with 200 before they know.
fn told_error(status: StatusCode, headers: &HeaderMap, body: &str) -> Option<Fault> {
    body.contains("<Error>").then(|| classify(status, headers, body))
}
