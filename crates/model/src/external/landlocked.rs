//! What a model's program may read and write, enforced by the kernel (Landlock).
//!
//! The rules apply between `fork` and `exec`, so that no thread of this process is bound by them. A program may read the
//! memory of whatever is bound by the same rules as itself (`ptrace`, `/proc/PID/task/TID/mem`): a thread of this process
//! that applied them to itself would give away the labels.

use std::path::PathBuf;

/// What a program may read and write.
pub(super) struct Rules {
    pub readable: Vec<PathBuf>,
    pub writable: Vec<PathBuf>,
    /// Whether a wrapper writes `/proc/self/uid_map` before the program starts.
    pub maps_users: bool,
}

#[cfg(target_os = "linux")]
pub(super) use kernel::{is_held, restrict};

#[cfg(target_os = "linux")]
mod kernel {
    use std::io::Error;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use landlock::{
        ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
        RulesetStatus, Scope, path_beneath_rules,
    };

    use super::Rules;

    /// The newest Landlock version whose rules are requested; older kernels enforce the ones they support.
    const VERSION: ABI = ABI::V6;

    fn created(rules: &Rules) -> Result<RulesetCreated, RulesetError> {
        let read = path_beneath_rules(&rules.readable, AccessFs::from_read(VERSION));
        let write = path_beneath_rules(&rules.writable, AccessFs::from_all(VERSION));
        let maps: &[&str] = if rules.maps_users { &["/proc"] } else { &[] };
        let maps = path_beneath_rules(maps, AccessFs::from_read(VERSION) | AccessFs::WriteFile);
        Ruleset::default()
            .handle_access(AccessFs::from_all(VERSION))?
            .handle_access(AccessNet::from_all(VERSION))?
            .scope(Scope::from_all(VERSION))?
            .create()?
            .add_rules(read)?
            .add_rules(write)?
            .add_rules(maps)
    }

    /// Restricts a command, and everything it starts, to the rules.
    pub(in super::super) fn restrict(command: &mut Command, rules: &Rules) -> Result<(), String> {
        let mut rules = Some(created(rules).map_err(|error| format!("Landlock: {error}"))?);
        let apply = move || match rules.take().map(RulesetCreated::restrict_self) {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(Error::last_os_error()),
        };
        #[allow(unsafe_code)]
        // SAFETY: between `fork` and `exec`, the closure calls prctl, landlock_restrict_self and close, and neither
        // allocates nor locks.
        unsafe {
            command.pre_exec(apply);
        }
        Ok(())
    }

    /// Returns whether the kernel enforces the rules, by trying on a temporary thread.
    pub(in super::super) fn is_held() -> bool {
        let nothing = Rules { readable: Vec::new(), writable: Vec::new(), maps_users: false };
        let tried = std::thread::spawn(move || {
            created(&nothing)
                .and_then(RulesetCreated::restrict_self)
                .is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)
        });
        tried.join().unwrap_or(false)
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn restrict(_: &mut std::process::Command, rules: &Rules) -> Result<(), String> {
    let Rules { readable: _, writable: _, maps_users: _ } = rules;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_held() -> bool {
    false
}
