//! The process's own limits: as many files as the system lets it have, because every connection
//! is one and the usual soft limit of 1024 is not meant for servers.

/// Raises the soft limit of open files to the hard one.
pub(super) fn raise() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // Refused, everything still works up to the limit there is; `greenroom doctor` tells.
        if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
            tracing::debug!(?current, ?maximum, "the limit of open files stays as it is");
        }
    }
}
