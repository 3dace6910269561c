//! How much memory this process holds, and has held at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// How often memory is looked at. Where the system keeps the peak itself, that is taken instead.
const EVERY: Duration = Duration::from_millis(20);

/// Watches the memory of this process until it is dropped. Mapped weights count where they are in memory.
pub(crate) struct MemoryWatch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MemoryWatch {
    pub(crate) fn start() -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (to, until) = (peak.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut system = System::new();
            while !until.load(Ordering::Relaxed) {
                to.fetch_max(resident(&mut system), Ordering::Relaxed);
                std::thread::sleep(EVERY);
            }
        });
        Self { peak, stop, thread: Some(thread) }
    }

    /// Bytes held now.
    pub(crate) fn now(&self) -> u64 {
        resident(&mut System::new())
    }

    /// Most bytes held at once so far.
    pub(crate) fn peak(&self) -> u64 {
        high_water().unwrap_or(0).max(self.peak.load(Ordering::Relaxed))
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn resident(system: &mut System) -> u64 {
    let pid = Pid::from_u32(std::process::id());
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
    system.process(pid).map_or(0, |process| process.memory())
}

/// The peak as the kernel kept it (`VmHWM`), on systems with such a file.
fn high_water() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
