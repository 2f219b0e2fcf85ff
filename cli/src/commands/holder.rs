//! Who listens on a port of this machine, as far as /proc tells this user.

use std::path::{Path, PathBuf};

/// Name and id of a process that listens on `port`; nothing where that cannot be seen.
pub(super) fn of(port: u16) -> Option<String> {
    let sockets: Vec<String> = ["tcp", "tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(format!("/proc/net/{table}")).ok())
        .flat_map(|table| listeners(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let mut ids = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let folder = |id: u32| PathBuf::from(format!("/proc/{id}"));
    let holder = ids.find(|id| holds_one_of(&folder(*id), &sockets))?;
    let name = std::fs::read_to_string(folder(holder).join("comm")).ok()?;
    Some(format!("{} (process {holder})", name.trim()))
}

/// Inodes of the sockets that listen on `port`, out of a table of proc_net(5).
fn listeners(table: &str, port: u16) -> Vec<String> {
    const LISTEN: &str = "0A";
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16).ok()? == port && *fields.get(3)? == LISTEN;
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    };
    table.lines().skip(1).filter_map(of_line).collect()
}

fn holds_one_of(process: &Path, sockets: &[String]) -> bool {
    let Ok(open) = std::fs::read_dir(process.join("fd")) else {
        return false;
    };
    open.flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .any(|target| sockets.iter().any(|socket| target == Path::new(socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_found_by_its_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            0: 0100007F:1BA5 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0\n\
            1: 0100007F:1BA5 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 78 1 0\n\
            2: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 79 1 0\n";
        assert_eq!(listeners(table, 7077), ["77"]);
        assert_eq!(listeners(table, 7078), Vec::<String>::new());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = of(listener.local_addr().unwrap().port()).unwrap();
        let id = format!("(process {})", std::process::id());
        assert!(holder.ends_with(&id), "{holder}");
    }
}
