//! The built-in sandbox image: a program of 232 bytes that holds a Pod's namespaces and reaps its orphans.
//!
//! Made in code, so that no sandbox ever waits for a registry. The same input gives the same digest everywhere.

use std::io;

use super::{Blob, ImageContent, digest_of, media};

/// Full name, as the runtime stores it and as its configuration names it.
pub const PAUSE_IMAGE: &str = "corten.dev/pause:1";

/// Where the program is loaded; any page does.
const BASE: u64 = 0x40_0000;
const EHDR: usize = 64;
const PHDR: usize = 56;

/// x86-64, Linux. Blocks all signals it waits for, so that they reach it although it is process 1, and then
/// waits: SIGCHLD → reaps all that have ended; SIGINT or SIGTERM → exit 0.
#[rustfmt::skip]
const CODE: [u8; 112] = [
    // rt_sigprocmask(SIG_BLOCK, &set, NULL, 8)
    0xb8, 0x0e, 0, 0, 0,                   // mov  eax, 14
    0x31, 0xff,                            // xor  edi, edi
    0x48, 0x8d, 0x35, 0x5a, 0, 0, 0,       // lea  rsi, [set]
    0x31, 0xd2,                            // xor  edx, edx
    0x41, 0xba, 8, 0, 0, 0,                // mov  r10d, 8
    0x0f, 0x05,                            // syscall
    // wait: rt_sigtimedwait(&set, NULL, NULL, 8)
    0xb8, 0x80, 0, 0, 0,                   // mov  eax, 128
    0x48, 0x8d, 0x3d, 0x44, 0, 0, 0,       // lea  rdi, [set]
    0x31, 0xf6,                            // xor  esi, esi
    0x31, 0xd2,                            // xor  edx, edx
    0x41, 0xba, 8, 0, 0, 0,                // mov  r10d, 8
    0x0f, 0x05,                            // syscall
    0x83, 0xf8, 17,                        // cmp  eax, SIGCHLD
    0x74, 0x0c,                            // je   reap
    0x83, 0xf8, 2,                         // cmp  eax, SIGINT
    0x74, 0x25,                            // je   done
    0x83, 0xf8, 15,                        // cmp  eax, SIGTERM
    0x74, 0x20,                            // je   done
    0xeb, 0xd7,                            // jmp  wait
    // reap: wait4(-1, NULL, WNOHANG, NULL)
    0xb8, 0x3d, 0, 0, 0,                   // mov  eax, 61
    0x48, 0xc7, 0xc7, 0xff, 0xff, 0xff, 0xff, // mov rdi, -1
    0x31, 0xf6,                            // xor  esi, esi
    0xba, 1, 0, 0, 0,                      // mov  edx, 1
    0x45, 0x31, 0xd2,                      // xor  r10d, r10d
    0x0f, 0x05,                            // syscall
    0x85, 0xc0,                            // test eax, eax
    0x7f, 0xe4,                            // jg   reap
    0xeb, 0xb9,                            // jmp  wait
    // done: exit(0)
    0xb8, 0x3c, 0, 0, 0,                   // mov  eax, 60
    0x31, 0xff,                            // xor  edi, edi
    0x0f, 0x05,                            // syscall
    // set: SIGINT, SIGTERM, SIGCHLD
    0x02, 0x40, 0x01, 0, 0, 0, 0, 0,
];

/// The image with its one layer.
///
/// # Errors
/// `Unsupported` on machines other than x86-64.
pub fn pause_image() -> io::Result<ImageContent> {
    if std::env::consts::ARCH != "x86_64" {
        let message = format!(
            "there is no built-in sandbox image for {}",
            std::env::consts::ARCH
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
    }
    let layer = layer(&program())?;
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": { "Entrypoint": ["/pause"] },
        "rootfs": { "type": "layers", "diff_ids": [digest_of(&layer)] },
    });
    let config = Blob::memory(media::CONFIG, config.to_string().into_bytes());
    let mut image = ImageContent::new(config, vec![Blob::memory(media::LAYER, layer)]);
    image.names.push(PAUSE_IMAGE.to_string());
    image.pinned = true;
    Ok(image)
}

/// A static ELF file: header, one readable and executable segment that spans the file, code.
fn program() -> Vec<u8> {
    let size = (EHDR + PHDR + CODE.len()) as u64;
    let entry = BASE + (EHDR + PHDR) as u64;
    let mut elf = Vec::with_capacity(size as usize);
    elf.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64 bits, little endian, System V
    elf.extend(2u16.to_le_bytes()); // executable
    elf.extend(62u16.to_le_bytes()); // x86-64
    elf.extend(1u32.to_le_bytes());
    elf.extend(entry.to_le_bytes());
    elf.extend((EHDR as u64).to_le_bytes()); // program headers follow at once
    elf.extend(0u64.to_le_bytes()); // no sections
    elf.extend(0u32.to_le_bytes());
    for half in [EHDR as u16, PHDR as u16, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes()); // PT_LOAD
    elf.extend(5u32.to_le_bytes()); // read and execute
    for word in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(CODE);
    elf
}

fn layer(program: &[u8]) -> io::Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_path("pause")?;
    header.set_size(program.len() as u64);
    header.set_mode(0o755);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, program)?;
    archive.into_inner()
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    /// Starts the program itself, signals it, and compares how it ended.
    #[track_caller]
    fn check(signal: Signal, exit_code: Option<i32>, by_signal: Option<i32>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Another test's fork may hold the file open for writing for a moment.
        let mut child = loop {
            match Command::new(&path).spawn() {
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                child => break child.unwrap(),
            }
        };
        let pid = Pid::from_raw(child.id() as i32);
        // It sleeps nowhere but where it waits for signals. (The mask in `status` says nothing: the kernel opens it
        // for as long as the program waits.)
        let waits = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.contains("(pause) S")
        };
        while !waits() {
            std::thread::yield_now();
        }
        kill(pid, Signal::SIGCHLD).unwrap(); // nothing to reap: it must go on waiting
        kill(pid, signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (exit_code, by_signal));
    }

    #[test]
    fn it_waits_and_ends_cleanly_when_told() {
        check(Signal::SIGTERM, Some(0), None);
        check(Signal::SIGINT, Some(0), None);
        check(Signal::SIGKILL, None, Some(9));
    }

    #[test]
    fn the_image_is_the_same_every_time() {
        let (a, b) = (pause_image().unwrap(), pause_image().unwrap());
        assert_eq!(a.manifest.digest, b.manifest.digest);
        assert_eq!(a.names, [PAUSE_IMAGE]);
        assert_eq!(
            super::super::reference::normalise(PAUSE_IMAGE).unwrap(),
            PAUSE_IMAGE
        );
    }
}
