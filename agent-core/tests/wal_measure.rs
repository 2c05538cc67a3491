mod wal_support;
use std::time::Instant;
use agent_core::{BatchLimits, wal::{Wal, SledWal, WalOptions}};
use wal_support::*;

fn status(key: &str) -> u64 {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    s.lines().find(|l| l.starts_with(key)).unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
}
fn cpu_us() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    let t: f64 = f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap();
    t * 10_000.0
}
fn median(mut v: Vec<f64>) -> (f64, f64, f64) { v.sort_by(f64::total_cmp); (v[v.len()/2], v[v.len()*99/100], v[v.len()-1]) }

#[test]
#[ignore]
fn measure() {
    let dir = std::path::PathBuf::from(std::env::var("MEASURE_DIR").unwrap_or("/tmp/wal-measure".into()));
    let _ = std::fs::remove_dir_all(&dir);
    println!("rss start {} kB", status("VmRSS"));
    let mut wal = SledWal::open(&dir, WalOptions::default()).unwrap();
    wal.register("hub").unwrap();
    println!("rss open {} kB", status("VmRSS"));
    // steady: append + ack
    let schemas: Vec<_> = (0..12).map(|i| schema(&format!("c{i}"), 40)).collect();
    let p = payload(1, 1800);
    let n = 3000u64;
    let c0 = cpu_us(); let t0 = Instant::now();
    let mut times = vec![];
    for i in 0..n {
        let t = Instant::now();
        let seq = append_with(&mut wal, i, &p, &schemas).unwrap();
        times.push(t.elapsed().as_secs_f64()*1e6);
        let b = wal.read("hub", BatchLimits{records: 100, bytes: 1<<20}).unwrap().unwrap();
        assert_eq!(b.records.len(), 1);
        wal.acknowledge("hub", seq).unwrap();
    }
    println!("steady: append median/p99/max {:?} us; cpu per cycle {:.0} us; wall {:.0} us; rss {} kB; disk {:?}", median(times), (cpu_us()-c0)/n as f64, t0.elapsed().as_secs_f64()*1e6/n as f64, status("VmRSS"), wal.stats());
    // backlog
    let n = 8640u64;
    let c0 = cpu_us();
    let mut times = vec![];
    for i in 0..n {
        let t = Instant::now();
        append_with(&mut wal, 3000+i, &payload(i, 1800), &schemas).unwrap();
        times.push(t.elapsed().as_secs_f64()*1e6);
    }
    println!("backlog: append median/p99/max {:?} us; cpu per append {:.0} us; rss {} kB hwm {}; {:?}", median(times), (cpu_us()-c0)/n as f64, status("VmRSS"), status("VmHWM"), wal.stats());
    let s = wal.stats();
    println!("disk/payload {:.2}; du -> {}", s.disk_bytes as f64/(n as f64*1800.0), String::from_utf8_lossy(&std::process::Command::new("du").arg("-sk").arg(&dir).output().unwrap().stdout).trim());
    let c0 = cpu_us(); let t0 = Instant::now();
    let mut hw = 0; let mut got = 0; let mut batches = 0;
    while let Some(b) = wal.read("hub", BatchLimits{records: 500, bytes: 1<<20}).unwrap() {
        got += b.records.len() as u64; batches += 1;
        hw = hw.max(status("VmRSS"));
        wal.acknowledge("hub", b.records.last().unwrap().seq).unwrap();
    }
    assert_eq!(got, n);
    println!("drain: {batches} batches wall {:.0} ms cpu {:.0} ms; rss max {hw} now {} kB; {:?}", t0.elapsed().as_secs_f64()*1e3, (cpu_us()-c0)/1e3, status("VmRSS"), wal.stats());
    for i in 0..20 { append_with(&mut wal, 20000+i, &p, &schemas).unwrap(); wal.acknowledge("hub", u64::MAX).unwrap(); }
    println!("after: rss {} {:?}", status("VmRSS"), wal.stats());
    let t = Instant::now();
    drop(wal);
    println!("close {:.1} ms", t.elapsed().as_secs_f64()*1e3);
    let t = Instant::now();
    let wal = SledWal::open(&dir, WalOptions::default()).unwrap();
    println!("open {:.1} ms {:?}", t.elapsed().as_secs_f64()*1e3, wal.stats());
}

#[test]
#[ignore]
fn growth() {
    let dir = std::path::PathBuf::from("/tmp/wal-growth");
    let _ = std::fs::remove_dir_all(&dir);
    let mut wal = SledWal::open(&dir, WalOptions::default()).unwrap();
    wal.register("hub").unwrap();
    let schemas: Vec<_> = (0..12).map(|i| schema(&format!("c{i}"), 40)).collect();
    let p = payload(1, 1800);
    let read = std::env::var("NOREAD").is_err();
    for i in 0..10000u64 {
        let seq = append_with(&mut wal, i, &p, &schemas).unwrap();
        if read {
        let b = wal.read("hub", BatchLimits{records: 100, bytes: 1<<20}).unwrap().unwrap();
        assert_eq!(b.records.len(), 1);
        wal.acknowledge("hub", seq).unwrap();
        }
        if i % 500 == 0 { print!("{}:{} ", i, status("VmRSS")/1024); }
    }
    println!();
    if let Ok(_) = std::env::var("SLEEP") { std::thread::sleep(std::time::Duration::from_secs(3)); println!("slept {}", status("VmRSS")); }
}
