//! AWS KMS as a key service: a tenant's key is a KMS data key, bound to the tenant by its encryption context, so that a policy
//! may name tenants and an audit shows them. One call a version, process and five minutes, whatever is written.
//!
//! The JSON API of 2014-11-01 (`GenerateDataKey`, `Decrypt`), signed by `object_store`, which also finds the credentials: as for
//! S3, from the environment, a web identity, the container or the instance.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{HttpClient, HttpConnector as _, HttpRequest, ReqwestConnector};
use prism_model::TenantId;
use serde_json::{Value, json};

use super::{KeyError, KeyService, TENANT_KEY_BYTES};

/// Time for one call: KMS answers within 10 ms, another region within 300.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Calls, where the first ones get no answer or are told to come later.
const ATTEMPTS: u32 = 3;
/// Before the second call; each further one waits twice as long.
const BACKOFF: Duration = Duration::from_millis(100);
/// Refusals that mean "later": all others stay as they are until somebody changes a policy or a key.
const LATER: [&str; 5] = [
    "ThrottlingException",
    "LimitExceededException",
    "KMSInternalException",
    "DependencyTimeoutException",
    "KeyUnavailableException",
];

/// Which key of KMS, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KmsOptions {
    /// The key's id, ARN or alias.
    pub key: String,
    /// Its region; empty: that of the key's ARN, else of the environment (`AWS_REGION`).
    pub region: String,
    /// Another endpoint than AWS's of the region, such as a private one or a test's.
    pub url: String,
}

/// A KMS key.
pub struct Kms {
    call: Arc<Call>,
    /// Its own thread: it is asked from threads of any kind.
    runtime: Option<tokio::runtime::Runtime>,
}

struct Call {
    key: String,
    region: String,
    url: String,
    client: HttpClient,
    credentials: AwsCredentialProvider,
}

impl Kms {
    /// A key of KMS; nothing is asked yet.
    ///
    /// # Errors
    /// What is wrong with the options or the environment, in words for an operator.
    pub fn open(options: &KmsOptions) -> Result<Kms, String> {
        if options.key.is_empty() {
            return Err("`encryption.kms_key`: expected a key's id, ARN or alias, found none".to_owned());
        }
        let builder = AmazonS3Builder::from_env().with_bucket_name("none");
        let from_env = builder.get_config_value(&AmazonS3ConfigKey::Region);
        let of_arn = options.key.strip_prefix("arn:").and_then(|arn| arn.split(':').nth(2)).map(str::to_owned);
        let given = Some(options.region.clone()).filter(|region| !region.is_empty());
        let region = given.or(of_arn).or(from_env).ok_or("`encryption.kms_region`: expected a region, found none")?;
        let url = match options.url.trim_end_matches('/') {
            "" => format!("https://kms.{region}.amazonaws.com/"),
            url => format!("{url}/"),
        };
        // The authoriser takes a URL apart and believes that it is one.
        let authority = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
        let host = authority.and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        if host.is_empty() {
            return Err(format!(
                "`encryption.kms_url`: expected a URL such as `https://kms.example.com`, found `{url}`"
            ));
        }
        let failed = |e: object_store::Error| format!("AWS KMS cannot be used: {e}");
        let client = ReqwestConnector::default()
            .connect(
                &ClientOptions::new()
                    .with_timeout(CALL_TIMEOUT)
                    .with_connect_timeout(CONNECT_TIMEOUT)
                    .with_allow_http(url.starts_with("http://")),
            )
            .map_err(failed)?;
        let credentials = builder.with_region(&region).build().map_err(failed)?.credentials().clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("prism-kms")
            .enable_all()
            .build()
            .map_err(|e| format!("AWS KMS cannot be used: {e}"))?;
        let call = Arc::new(Call { key: options.key.clone(), region, url, client, credentials });
        Ok(Kms { call, runtime: Some(runtime) })
    }

    fn ask(&self, action: &'static str, body: Value) -> Result<Value, KeyError> {
        let Some(runtime) = &self.runtime else { return Err(unreachable("the client is closed")) };
        let (call, (answer, wait)) = (self.call.clone(), mpsc::channel());
        runtime.spawn(async move {
            let mut result = call.once(action, &body).await;
            for attempt in 1..ATTEMPTS {
                if !matches!(result, Err(KeyError::Unreachable(_))) {
                    break;
                }
                tokio::time::sleep(BACKOFF * 2u32.pow(attempt - 1)).await;
                result = call.once(action, &body).await;
            }
            // Who asked waits.
            let _waits = answer.send(result);
        });
        wait.recv().unwrap_or_else(|_| Err(unreachable("the call was cut off")))
    }
}

impl Call {
    async fn once(&self, action: &str, body: &Value) -> Result<Value, KeyError> {
        let credential = self.credentials.get_credential().await.map_err(|e| KeyError::Unreachable(Arc::new(e)))?;
        let mut request = HttpRequest::new(body.to_string().into());
        let bad = || KeyError::Refused(Arc::new(std::io::Error::other("the request cannot be made: check the URL")));
        *request.method_mut() = "POST".parse().map_err(|_| bad())?;
        *request.uri_mut() = self.url.parse().map_err(|_| bad())?;
        let target = format!("TrentService.{action}");
        for (name, value) in [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())] {
            request.headers_mut().insert(name, value.parse().map_err(|_| bad())?);
        }
        AwsAuthorizer::new(&credential, "kms", &self.region).authorize(&mut request, None);
        let response = self.client.execute(request).await.map_err(|e| KeyError::Unreachable(Arc::new(e)))?;
        let (good, later) = (response.status().is_success(), response.status().is_server_error());
        let status = response.status().as_u16();
        let bytes = response.into_body().bytes().await.map_err(|e| KeyError::Unreachable(Arc::new(e)))?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if good {
            return Ok(answer);
        }
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = text("__type");
        let kind = kind.rsplit('#').next().unwrap_or_default();
        let why = Arc::new(std::io::Error::other(format!("{status} {kind} {}{}", text("message"), text("Message"))));
        if later || LATER.contains(&kind) { Err(KeyError::Unreachable(why)) } else { Err(KeyError::Refused(why)) }
    }
}

impl KeyService for Kms {
    fn generate(&self, tenant: &TenantId) -> Result<([u8; TENANT_KEY_BYTES], Vec<u8>), KeyError> {
        let body = json!({ "KeyId": self.call.key, "KeySpec": "AES_256", "EncryptionContext": context(tenant) });
        let answer = self.ask("GenerateDataKey", body)?;
        let sealed = bytes_of(&answer, "CiphertextBlob").filter(|sealed| !sealed.is_empty());
        Ok((plaintext(&answer)?, sealed.ok_or_else(|| unreachable("an answer without `CiphertextBlob`"))?))
    }

    fn open(&self, tenant: &TenantId, sealed: &[u8]) -> Result<[u8; TENANT_KEY_BYTES], KeyError> {
        // No key id: the ciphertext names it, so that another key may be configured for new versions.
        let body = json!({ "CiphertextBlob": BASE64.encode(sealed), "EncryptionContext": context(tenant) });
        plaintext(&self.ask("Decrypt", body)?)
    }
}

impl Drop for Kms {
    fn drop(&mut self) {
        // May happen on a thread of another runtime, which must not wait.
        self.runtime.take().into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
    }
}

/// What a ciphertext is bound to, and what KMS writes into its audit log.
fn context(tenant: &TenantId) -> Value {
    json!({ "tenant": tenant.as_str(), "purpose": "prism tenant key" })
}

fn bytes_of(answer: &Value, name: &str) -> Option<Vec<u8>> {
    BASE64.decode(answer.get(name)?.as_str()?).ok()
}

fn plaintext(answer: &Value) -> Result<[u8; TENANT_KEY_BYTES], KeyError> {
    let key = bytes_of(answer, "Plaintext").and_then(|key| key.try_into().ok());
    key.ok_or_else(|| unreachable("an answer without a `Plaintext` of 32 bytes"))
}

fn unreachable(why: &'static str) -> KeyError {
    KeyError::Unreachable(Arc::new(std::io::Error::other(why)))
}
