//! What there is a column, a line or a directory of for each CPU.

use std::{fs, io};

use super::{Size, Tree, lines};

pub(super) fn write(tree: &Tree<'_>, size: &Size) -> io::Result<()> {
    let Size { cpus, interrupts, .. } = *size;
    tree.file("proc/stat", &stat(cpus))?;
    tree.file("proc/schedstat", &schedstat(cpus))?;
    tree.file("proc/softirqs", &softirqs(cpus))?;
    tree.file("proc/interrupts", &interrupts_of(cpus, interrupts))?;
    tree.file("proc/net/softnet_stat", &softnet(cpus))?;
    // those that are there have other numbers
    fs::remove_dir_all(tree.0.join("sys/devices/system/cpu"))?;
    (0..cpus).try_for_each(|cpu| directory(tree, cpu))
}

fn stat(cpus: usize) -> String {
    let total = "cpu 132001917 8347 12005536 3062223811 137388 0 475542 0 15221 491\n";
    let each = lines(cpus, |cpu| {
        format!("cpu{cpu} {} 17 722250 98765432 4321 0 911 0 31 1\n", 1_000_003 + cpu)
    });
    let rest = "intr 98765432109 0 595 190\nctxt 18446744073\nbtime 1700000000\n\
                processes 123456789\nprocs_running 33\nprocs_blocked 4\nsoftirq 5 1 2 3\n";
    format!("{total}{each}{rest}")
}

fn schedstat(cpus: usize) -> String {
    let each = lines(cpus, |cpu| {
        let waiting = 343_796_328_169_361 + cpu;
        format!(
            "cpu{cpu} 0 0 0 0 0 0 2045936778163039 {waiting} 4767485306\ndomain0 00000003 1 2 3\n"
        )
    });
    format!("version 15\ntimestamp 15819019232\n{each}")
}

fn heading(cpus: usize) -> String {
    lines(cpus, |cpu| format!(" {:>10}", format!("CPU{cpu}")))
}

fn counts(cpus: usize, first: usize) -> String {
    lines(cpus, |cpu| format!(" {:>10}", first + cpu))
}

fn softirqs(cpus: usize) -> String {
    let kinds = ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "TASKLET", "SCHED", "HRTIMER", "RCU"];
    let rows = kinds.iter().enumerate();
    let rows: String =
        rows.map(|(row, kind)| format!("{kind:>12}:{}\n", counts(cpus, row * 1_000))).collect();
    format!("            {}\n{rows}", heading(cpus))
}

fn interrupts_of(cpus: usize, interrupts: usize) -> String {
    let numbered = lines(interrupts, |irq| {
        format!("{irq:>4}:{}  PCI-MSI {irq}-edge      queue-{irq}\n", counts(cpus, irq * 7))
    });
    let named = format!(" NMI:{}   Non-maskable interrupts\n", counts(cpus, 1));
    format!("     {}\n{numbered}{named} ERR:          0\n", heading(cpus))
}

fn softnet(cpus: usize) -> String {
    let zeros = " 00000000".repeat(9);
    lines(cpus, |cpu| format!("{:08x} 00000001 00000002{zeros} {cpu:08x}\n", 0x10_000 + cpu))
}

fn directory(tree: &Tree<'_>, cpu: usize) -> io::Result<()> {
    let below = |name: &str| format!("sys/devices/system/cpu/cpu{cpu}/{name}");
    let topology =
        [("core_id", (cpu / 2 % 64).to_string()), ("physical_package_id", (cpu / 128).to_string())];
    tree.attributes(&below("topology"), &topology)?;
    let throttle =
        [("core_throttle_count", cpu.to_string()), ("package_throttle_count", "7".to_owned())];
    tree.attributes(&below("thermal_throttle"), &throttle)?;
    let hertz = |name, kilohertz: usize| (name, format!("{kilohertz}\n"));
    let frequencies = [
        hertz("cpuinfo_min_freq", 800_000),
        hertz("cpuinfo_max_freq", 3_900_000),
        hertz("scaling_cur_freq", 1_200_000 + cpu),
        hertz("scaling_min_freq", 800_000),
        hertz("scaling_max_freq", 3_900_000),
    ];
    tree.attributes(&below("cpufreq"), &frequencies)
}
