//! Where the socket of a store is.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Longest path of a socket that every system takes, with room for the name it is made under.
const PATH_MAX_BYTES: usize = 96;

/// Path of the control socket of the store at `store`: beside it, as `STORE.sock`; when that is too long for the
/// system, under a name made from its hash in `$XDG_RUNTIME_DIR`, or in the directory for temporary files.
#[must_use]
pub fn socket_path(store: &Path) -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    place(&absolute(store), runtime.map_or_else(std::env::temp_dir, PathBuf::from))
}

fn place(store: &Path, runtime: PathBuf) -> PathBuf {
    let mut beside = store.as_os_str().to_owned();
    beside.push(".sock");
    if beside.len() <= PATH_MAX_BYTES {
        return PathBuf::from(beside);
    }
    let hash = fnv1a(store.as_os_str().as_bytes());
    runtime.join(format!("stanchion-{hash:016x}.sock"))
}

/// The same for every way to write the path. The file itself need not exist.
fn absolute(store: &Path) -> PathBuf {
    let parent = store.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().or_else(|_| std::path::absolute(parent));
    let name = store.file_name().map_or_else(OsString::new, OsString::from);
    parent.map_or_else(|_| store.to_path_buf(), |parent| parent.join(name))
}

/// # Source
/// Fowler, Noll, Vo: FNV-1a with 64 bits. The same in every version of the program, unlike the standard hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_falls_back_to_a_hashed_name() {
        let runtime = || PathBuf::from("/run/user/1000");
        assert_eq!(place(Path::new("/data/app.redb"), runtime()), PathBuf::from("/data/app.redb.sock"));
        let long = PathBuf::from(format!("/{}/app.redb", "d".repeat(120)));
        let found = place(&long, runtime());
        assert!(found.starts_with("/run/user/1000") && found.as_os_str().len() <= PATH_MAX_BYTES);
        let other = PathBuf::from(format!("/{}/app2.redb", "d".repeat(120)));
        assert_ne!(place(&other, runtime()), found);
    }

    #[test]
    fn every_way_to_write_a_path_leads_to_one_socket() {
        assert_eq!(socket_path(Path::new("app.redb")), socket_path(Path::new("./app.redb")));
    }
}
