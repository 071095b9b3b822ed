//! What a guest's init needs to know to start an image's program: the config, and who its user is in the root file system.

use std::path::Path;

use serde::Serialize;

use super::users::RootfsUser;
use crate::error::{Error, Result, Status};
use crate::image::Image;

/// Where programs are looked for when an image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An image's program, as it is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// The command and its arguments: the entrypoint, and behind it `cmd`. Empty where the image has neither.
    pub args: Vec<String>,
    /// Variables as the image has them, with a `PATH` where it has none.
    pub env: Vec<String>,
    /// The directory to start in; absolute.
    pub cwd: String,
    /// As whom.
    pub user: RootfsUser,
    /// The signal that asks it to stop; empty where the image does not say (`SIGTERM` is usual).
    pub stop_signal: String,
}

impl Image {
    /// The image's program, with its user looked up in an assembled root file system. Nothing else of the config is looked
    /// at there: commands, variables and directories are what the image says, and nothing that the host should follow.
    ///
    /// As [`RootfsUser::look_up`]; `NOT_FOUND` too where the image's config is missing in the store.
    pub fn process(&self, rootfs: &Path) -> Result<Process> {
        self.process_of(|user| RootfsUser::look_up(rootfs, user))
    }

    /// The same where `look_up` finds the user.
    pub(crate) fn process_of(&self, look_up: impl FnOnce(&str) -> Result<RootfsUser>) -> Result<Process> {
        if self.config_bytes.is_empty() {
            let why = format!("config {} is not in the store", self.manifest.config.digest);
            return Err(Error::new(Status::NotFound, why));
        }
        let config = &self.config;
        let mut env = config.env.clone();
        if !env.iter().any(|variable| variable.starts_with("PATH=")) {
            env.push(PATH.to_owned());
        }
        let is_absolute = config.working_dir.starts_with('/');
        Ok(Process {
            args: config.entrypoint.iter().chain(&config.cmd).cloned().collect(),
            env,
            cwd: if is_absolute { config.working_dir.clone() } else { format!("/{}", config.working_dir) },
            user: look_up(&config.user)?,
            stop_signal: config.stop_signal.clone(),
        })
    }
}

impl Process {
    /// The `process` object of an OCI runtime configuration (runtime-spec, config.md).
    pub fn to_runtime_json(&self) -> String {
        let RootfsUser { uid, gid, additional_gids, .. } = &self.user;
        let process = RuntimeProcess {
            terminal: false,
            user: RuntimeUser { uid: *uid, gid: *gid, additional_gids },
            args: &self.args,
            env: &self.env,
            cwd: &self.cwd,
        };
        // Strings and numbers cannot fail to become JSON.
        serde_json::to_string(&process).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct RuntimeProcess<'a> {
    terminal: bool,
    user: RuntimeUser<'a>,
    args: &'a [String],
    env: &'a [String],
    cwd: &'a str,
}

#[derive(Serialize)]
struct RuntimeUser<'a> {
    uid: u32,
    gid: u32,
    #[serde(rename = "additionalGids", skip_serializing_if = "<[u32]>::is_empty")]
    additional_gids: &'a [u32],
}
