//! Image configs (OCI image-spec, config.md): what an image says of how it is to be run.
//!
//! Hosts start processes by these values, so each is what it says or an error; a key of the wrong type is not taken for
//! one that is absent. Docker's forms count too: lists that are `null`, and a command that is one string.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json;
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
        let diff_ids = diff_ids.iter().map(|text| json::digest(text, "config"));
        Ok(ImageConfig {
            created: raw.created.unwrap_or_default(),
            architecture: raw.architecture.unwrap_or_default(),
            os: raw.os.unwrap_or_default(),
            variant: raw.variant.unwrap_or_default(),
            entrypoint: run.entrypoint.map(Words::into_list).unwrap_or_default(),
            cmd: run.cmd.map(Words::into_list).unwrap_or_default(),
            env: run.env.unwrap_or_default(),
            working_dir: run.working_dir.unwrap_or_default(),
            user: run.user.unwrap_or_default(),
            stop_signal: run.stop_signal.unwrap_or_default(),
            exposed_ports: run.exposed_ports.unwrap_or_default().into_keys().collect(),
            volumes: run.volumes.unwrap_or_default().into_keys().collect(),
            labels: run.labels.unwrap_or_default(),
            diff_ids: diff_ids.collect::<Result<_>>()?,
        })
    }
}

#[derive(Deserialize)]
struct RawConfig {
    created: Option<String>,
    architecture: Option<String>,
    os: Option<String>,
    variant: Option<String>,
    config: Option<RawRun>,
    rootfs: Option<RawRootfs>,
}

#[derive(Deserialize, Default)]
struct RawRootfs {
    diff_ids: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct RawRun {
    entrypoint: Option<Words>,
    cmd: Option<Words>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    stop_signal: Option<String>,
    exposed_ports: Option<BTreeMap<String, IgnoredAny>>,
    volumes: Option<BTreeMap<String, IgnoredAny>>,
    labels: Option<BTreeMap<String, String>>,
}

/// A list, or what old builders wrote for a list of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    List(Vec<String>),
    One(String),
}

impl Words {
    fn into_list(self) -> Vec<String> {
        match self {
            Words::List(list) => list,
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
