//! How a module's process gets from its environment to a connection [T-2].

use std::env;
use std::io;
use std::path::Path;

use crate::connect::{ConnectError, connect};
use crate::inherit::InheritError;
use crate::peer::PeerPolicy;
use crate::reactor::Reactor;
use crate::stream::UdsStream;
use crate::transport::UdsTransport;

/// Where a module attached by hand finds the host's socket.
pub const PATH_VARIABLE: &str = "SOCKET_PATH";

/// Why a module has no connection.
#[derive(Debug, thiserror::Error)]
pub enum FromEnvError {
    /// There is no runtime to use it on.
    #[error(transparent)]
    #[cfg(feature = "tokio")]
    NoRuntime(#[from] crate::tokio::NoRuntime),
    /// A descriptor was announced and is not one.
    #[error(transparent)]
    Inherit(#[from] InheritError),
    /// The path could not be connected to.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The environment names no connection.
    #[error(
        "neither MODIPC_FD nor LISTEN_FDS nor SOCKET_PATH is set: a module is started by its host, or told a path"
    )]
    Nothing,
    /// The runtime did not take the socket.
    #[error("the runtime does not take the socket: {0}")]
    Io(#[from] io::Error),
}

/// The connection that the environment names, on this runtime: an inherited descriptor (`MODIPC_FD`, `LISTEN_FDS`), or else the
/// path in `SOCKET_PATH`, whose host has to run as the same user (for others use [`connect`] with a policy).
///
/// # Errors
/// [`FromEnvError`].
pub fn from_env_on<R: Reactor>(runtime: R) -> Result<(R, UdsTransport<R>), FromEnvError> {
    let stream = match UdsStream::from_env()? {
        Some(stream) => stream,
        None => {
            let path = env::var_os(PATH_VARIABLE).ok_or(FromEnvError::Nothing)?;
            connect(Path::new(&path), &PeerPolicy::SameUser)?
        }
    };
    let transport = UdsTransport::new(&runtime, stream)?;
    Ok((runtime, transport))
}

/// [`from_env_on`] the tokio runtime in which this is called: what `modipc_module::run` takes.
///
/// # Errors
/// [`FromEnvError`].
#[cfg(feature = "tokio")]
pub fn from_env() -> Result<(crate::TokioRuntime, UdsTransport<crate::TokioRuntime>), FromEnvError> {
    from_env_on(crate::TokioRuntime::current()?)
}
