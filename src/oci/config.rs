//! Image configs (OCI image-spec, config.md): what an image says of how it is to be run.
//!
//! Hosts start processes by these values, so each is what it says or an error. A key of the wrong
//! type is not taken for one that is absent. Docker's forms count too: lists that are `null`, and a
//! command that is one string.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{Platform, json};
use crate::digest::Digest;
use crate::error::{Error, Result, Status};

/// An image's configuration. Lists are empty, and texts too, where the image says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageConfig {
    /// When it was made, as written (RFC 3339).
    pub created: String,
    /// The processor that it is for, as in `GOARCH`.
    pub architecture: String,
    /// The operating system that it is for, as in `GOOS`.
    pub os: String,
    /// Which kind of processor, such as `v8` for arm64.
    pub variant: String,
    /// The command's first words, which arguments are appended to.
    pub entrypoint: Vec<String>,
    /// The arguments, or the whole command without an entrypoint; what the caller gives takes their place.
    pub cmd: Vec<String>,
    /// Variables as `NAME=value`.
    pub env: Vec<String>,
    /// The directory to start in.
    pub working_dir: String,
    /// `user`, `uid`, `user:group` or `uid:gid`, to be looked up in the image.
    pub user: String,
    /// The signal that asks it to stop, such as `SIGTERM`.
    pub stop_signal: String,
    /// Ports that it listens on, as `8080/tcp`.
    pub exposed_ports: Vec<String>,
    /// Directories with data of its own.
    pub volumes: Vec<String>,
    /// Anything its maker wanted to say.
    pub labels: BTreeMap<String, String>,
    /// Digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<Digest>,
    /// What it needs of its operating system beside that.
    pub os_features: Vec<String>,
}

impl ImageConfig {
    /// Parses a config of at most 4 MiB; `MALFORMED`, or `LIMIT` for size and nesting.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        json::check_size_and_depth(bytes, "config")?;
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(malformed("not a JSON object"));
        }
        let raw: RawConfig = serde_json::from_slice(bytes).map_err(malformed)?;
        let run = raw.config.unwrap_or_default();
        let diff_ids = raw.rootfs.unwrap_or_default().diff_ids.unwrap_or_default();
        let diff_ids = diff_ids.iter().map(|text| json::digest(text.as_deref().unwrap_or_default(), "config"));
        let labels = run.labels.unwrap_or_default();
        Ok(ImageConfig {
            created: raw.created.unwrap_or_default(),
            architecture: raw.architecture.unwrap_or_default(),
            os: raw.os.unwrap_or_default(),
            variant: raw.variant.unwrap_or_default(),
            entrypoint: run.entrypoint.map(Words::into_list).unwrap_or_default(),
            cmd: run.cmd.map(Words::into_list).unwrap_or_default(),
            env: texts(run.env),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            stop_signal: run.stop_signal.unwrap_or_default(),
            exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
            volumes: run.volumes.unwrap_or_default().into_keys().collect(),
            labels: labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect(),
            diff_ids: diff_ids.collect::<Result<_>>()?,
            os_features: texts(raw.os_features).into_iter().filter(|feature| !feature.is_empty()).collect(),
        })
    }

    /// What it is for; with empty parts where it does not say.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }
}

/// Go's readers take keys in either case, and older Jib wrote some of them small. What is empty may be `null`.
#[derive(Deserialize)]
struct RawConfig {
    #[serde(alias = "Created")]
    created: Option<String>,
    #[serde(alias = "Architecture")]
    architecture: Option<String>,
    #[serde(alias = "Os", alias = "OS")]
    os: Option<String>,
    #[serde(alias = "Variant")]
    variant: Option<String>,
    #[serde(rename = "os.features", alias = "OS.Features")]
    os_features: Option<Vec<Option<String>>>,
    #[serde(alias = "Config")]
    config: Option<RawRun>,
    #[serde(alias = "RootFS", alias = "Rootfs")]
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize, Default)]
struct RawRootfs {
    #[serde(alias = "DiffIDs", alias = "Diff_ids", alias = "DIFF_IDS")]
    diff_ids: Option<Vec<Option<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawRun {
    #[serde(alias = "entrypoint", alias = "entryPoint", alias = "EntryPoint")]
    entrypoint: Option<Words>,
    #[serde(alias = "cmd")]
    cmd: Option<Words>,
    #[serde(alias = "env")]
    env: Option<Vec<Option<String>>>,
    #[serde(alias = "workingdir", alias = "workingDir", alias = "Workingdir")]
    working_dir: Option<String>,
    #[serde(alias = "user")]
    user: Option<String>,
    #[serde(alias = "stopsignal", alias = "stopSignal")]
    stop_signal: Option<String>,
    #[serde(alias = "exposedports", alias = "exposedPorts")]
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(alias = "volumes")]
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    #[serde(alias = "labels")]
    labels: Option<BTreeMap<String, Option<String>>>,
}

/// A list in which `null` is the empty text.
fn texts(list: Option<Vec<Option<String>>>) -> Vec<String> {
    list.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect()
}

/// A list, or what old builders wrote for a list of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<Option<String>>),
    One(String),
}

impl Words {
    fn into_list(self) -> Vec<String> {
        match self {
            Words::List(list) => texts(Some(list)),
            Words::One(one) => vec![one],
        }
    }
}

fn malformed(why: impl std::fmt::Display) -> Error {
    Error::new(Status::Malformed, format!("config: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_says_what_it_says() {
        let config = ImageConfig::parse(
            br#"{"created":"2026-01-02T03:04:05Z","architecture":"arm64","variant":"v8","os":"linux","config":{
                "Entrypoint":["/init"],"Cmd":["a","b"],"Env":["PATH=/bin","X="],"WorkingDir":"/w","User":"1:2",
                "StopSignal":"SIGINT","ExposedPorts":{"80/tcp":{},"53/udp":{}},"Volumes":{"/data":{}},
                "Labels":{"k":"v"},"Unknown":7},"rootfs":{"type":"layers","diff_ids":[]},"history":[{}]}"#,
        )
        .unwrap();
        assert_eq!(
            (config.architecture.as_str(), config.variant.as_str(), config.os.as_str()),
            ("arm64", "v8", "linux")
        );
        assert_eq!((config.entrypoint, config.cmd), (vec!["/init".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(config.env, ["PATH=/bin", "X="]);
        assert_eq!(
            (config.working_dir.as_str(), config.user.as_str(), config.stop_signal.as_str()),
            ("/w", "1:2", "SIGINT")
        );
        assert_eq!(
            (config.exposed_ports, config.volumes),
            (vec!["53/udp".to_owned(), "80/tcp".into()], vec!["/data".into()])
        );
        assert_eq!(config.labels["k"], "v");
    }

    #[test]
    fn absent_and_null_are_empty_and_a_command_may_be_one_word() {
        for text in [
            r#"{}"#,
            r#"{"config":null,"rootfs":null}"#,
            r#"{"config":{"Entrypoint":null,"Cmd":null,"Env":null,"Labels":null,"Volumes":null}}"#,
        ] {
            assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap(), ImageConfig::default(), "{text}");
        }
        assert_eq!(ImageConfig::parse(br#"{"config":{"Cmd":"x y"}}"#).unwrap().cmd, ["x y"]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in [
            "",
            "[]",
            "null",
            "{",
            r#"{"config":[]}"#,
            r#"{"config":{"Env":"A=b"}}"#,
            r#"{"config":{"Env":[1]}}"#,
            r#"{"config":{"Entrypoint":{"a":1}}}"#,
            r#"{"config":{"Labels":{"a":1}}}"#,
            r#"{"os":1}"#,
            r#"{"rootfs":{"diff_ids":["x"]}}"#,
            r#"{"os":"a","os":"b"}"#,
        ] {
            assert_eq!(ImageConfig::parse(text.as_bytes()).unwrap_err().status(), Status::Malformed, "{text}");
        }
    }
}
