//! Which hypervisor is below, by what firmware, kernel and CPU say.
//!
//! In this order: User Mode Linux by its CPU; the names that firmware gives machine, board and BIOS
//! (`/sys/class/dmi/id`); Xen by `/sys/hypervisor`, whose privileged domain counts as the machine; the
//! device tree and, on IBM Z, `/proc/sysinfo`. A CPU that says `hypervisor` and no more is told by the
//! clock that the hypervisor lends to the kernel, for to ask the CPU itself would need unsafe code.

use agent_core::Roots;

use super::head;

/// Which hypervisor's firmware begins its names so. Order and names: systemd-detect-virt(1).
const VENDORS: &[(&str, &str)] = &[
    ("KVM", "kvm"),
    ("OpenStack", "kvm"),
    ("KubeVirt", "kvm"),
    ("Amazon EC2", AMAZON),
    ("QEMU", QEMU),
    ("VMware", "vmware"),
    ("VMW", "vmware"),
    ("innotek GmbH", "oracle"),
    ("VirtualBox", "oracle"),
    ("Xen", "xen"),
    ("Bochs", "bochs"),
    ("Parallels", "parallels"),
    ("BHYVE", "bhyve"),
    ("Hyper-V", "microsoft"),
    ("Apple Virtualization", "apple"),
    ("Google Compute Engine", "google"),
];
/// Where firmware gives such names; the product goes first, for QEMU names KVM there.
const NAMES: [&str; 5] =
    ["product_name", "sys_vendor", "board_vendor", "bios_vendor", "product_version"];
/// Clocks that hypervisors lend, by how their names begin.
const CLOCKS: [(&str, &str); 3] = [("kvm-clock", "kvm"), ("hyperv_", "microsoft"), ("xen", "xen")];

const AMAZON: &str = "amazon";
const QEMU: &str = "qemu";
const OTHER: &str = "vm-other";
/// Bit of `/sys/hypervisor/properties/features`: the domain that owns the hardware.
const XEN_DOM0: u64 = 1 << 11;

/// The hypervisor, if there is one.
pub(super) fn detect(roots: &Roots) -> Option<&'static str> {
    let cpu = head(roots.proc("cpuinfo")).unwrap_or_default();
    if field(&cpu, "vendor_id").is_some_and(|vendor| vendor.starts_with("User Mode Linux")) {
        return Some("uml");
    }
    match of_firmware(roots) {
        Some(AMAZON) if is_metal(roots) => return None,
        // QEMU's firmware doesn't say who executes: its own emulator, or the kernel below.
        Some(QEMU) => return of_clock(roots).or(Some(QEMU)),
        Some(named) => return Some(named),
        None => {}
    }
    if head(roots.sys("hypervisor/type")).as_deref() == Some("xen") {
        return (!is_xen_dom0(roots)).then_some("xen");
    }
    of_device_tree(roots).or_else(|| of_mainframe(roots)).or_else(|| {
        let flags = field(&cpu, "flags").unwrap_or_default();
        let has_hypervisor = flags.split_ascii_whitespace().any(|flag| flag == "hypervisor");
        has_hypervisor.then(|| of_clock(roots).unwrap_or(OTHER))
    })
}

/// A field of the first CPU.
fn field<'a>(cpu: &'a str, name: &str) -> Option<&'a str> {
    cpu.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim())
    })
}

fn of_firmware(roots: &Roots) -> Option<&'static str> {
    let name = |attribute| head(roots.sys("class/dmi/id").join(attribute));
    // Hyper-V's vendor also makes machines; what it calls its virtual one is clear only with the vendor.
    let is = |attribute, text: &str| name(attribute).as_deref() == Some(text);
    if is("product_name", "Virtual Machine") && is("sys_vendor", "Microsoft Corporation") {
        return Some("microsoft");
    }
    NAMES.iter().filter_map(|attribute| name(attribute)).find_map(|found| {
        let vendor = VENDORS.iter().find(|(prefix, _)| found.starts_with(prefix));
        vendor.map(|(_, hypervisor)| *hypervisor)
    })
}

/// EC2 gives whole machines the firmware of virtual ones, but for the name: `m5.metal`, `x.metal-24xl`.
fn is_metal(roots: &Roots) -> bool {
    let product = head(roots.sys("class/dmi/id/product_name")).unwrap_or_default();
    product.split_once(".metal").is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('-'))
}

fn is_xen_dom0(roots: &Roots) -> bool {
    let features = head(roots.sys("hypervisor/properties/features"));
    if let Some(features) = features.and_then(|text| u64::from_str_radix(&text, 16).ok()) {
        return features & XEN_DOM0 != 0;
    }
    let capabilities = head(roots.proc("xen/capabilities")).unwrap_or_default();
    capabilities.split(',').any(|capability| capability.trim() == "control_d")
}

fn of_device_tree(roots: &Roots) -> Option<&'static str> {
    let compatible = head(roots.proc("device-tree/hypervisor/compatible"))?;
    Some(match compatible.trim_end_matches('\0') {
        "linux,kvm" => "kvm",
        name if name.contains("xen") => "xen",
        name if name.contains("vmware") => "vmware",
        _ => OTHER,
    })
}

/// `VM00 Control Program: z/VM 6.4.0`, or `KVM/Linux`.
fn of_mainframe(roots: &Roots) -> Option<&'static str> {
    let info = head(roots.proc("sysinfo"))?;
    let program = field(&info, "VM00 Control Program")?;
    Some(if program.starts_with("z/VM") { "zvm" } else { "kvm" })
}

fn of_clock(roots: &Roots) -> Option<&'static str> {
    let clocks = roots.sys("devices/system/clocksource/clocksource0/available_clocksource");
    let clocks = head(clocks)?;
    let of = |clock: &str| CLOCKS.iter().find(|(prefix, _)| clock.starts_with(prefix));
    clocks.split_ascii_whitespace().find_map(of).map(|(_, hypervisor)| *hypervisor)
}

#[cfg(test)]
mod tests {
    use super::super::tests::detect;

    #[test]
    fn hypervisors_are_told_apart() {
        let check = |files: &[(&str, &str)], expected: Option<&str>| {
            assert_eq!(detect(files).hypervisor, expected, "{files:?}");
        };
        let product = |name| ("sys/class/dmi/id/product_name", name);
        let vendor = |name| ("sys/class/dmi/id/sys_vendor", name);
        let clock =
            |names| ("sys/devices/system/clocksource/clocksource0/available_clocksource", names);
        let flags = ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu hypervisor lm\n");
        let machine = ("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu lm\n");

        check(&[machine, vendor("Dell Inc.\n"), product("PowerEdge R740\n")], None);
        check(&[machine, vendor("Oracle Corporation\n"), product("ORACLE SERVER X7-2\n")], None);
        check(&[machine, vendor("Microsoft Corporation\n"), product("Surface Pro\n")], None);
        check(&[product("KVM\n"), vendor("Red Hat\n")], Some("kvm"));
        check(&[product("Standard PC\n"), vendor("QEMU\n")], Some("qemu"));
        check(&[vendor("QEMU\n"), clock("kvm-clock tsc\n")], Some("kvm"));
        check(&[product("VMware7,1\n"), vendor("VMware, Inc.\n")], Some("vmware"));
        check(&[product("VirtualBox\n")], Some("oracle"));
        check(&[product("Google Compute Engine\n"), vendor("Google\n")], Some("google"));
        check(&[product("Virtual Machine"), vendor("Microsoft Corporation")], Some("microsoft"));
        check(&[product("c5.large\n"), vendor("Amazon EC2\n"), flags], Some("amazon"));
        check(&[product("c5.metal\n"), vendor("Amazon EC2\n"), machine], None);
        check(&[product("u7in.metal-24xl\n"), vendor("Amazon EC2\n")], None);
        // firmware is missing, as in Firecracker, or says nothing
        check(&[flags], Some("vm-other"));
        check(&[flags, clock("tsc kvm-clock\n")], Some("kvm"));
        check(&[flags, clock("hyperv_clocksource_tsc_page acpi_pm\n")], Some("microsoft"));
        check(&[machine, clock("tsc hpet acpi_pm\n")], None);
        check(&[("proc/cpuinfo", "vendor_id\t: User Mode Linux\n")], Some("uml"));
        let xen = ("sys/hypervisor/type", "xen\n");
        let features = |bits| ("sys/hypervisor/properties/features", bits);
        check(&[xen, flags], Some("xen"));
        check(&[xen, features("000025fd\n")], Some("xen"));
        check(&[xen, features("00002fff\n")], None);
        check(&[xen, ("proc/xen/capabilities", "control_d\n")], None);
        let tree = |name| ("proc/device-tree/hypervisor/compatible", name);
        check(&[tree("linux,kvm\0")], Some("kvm"));
        check(&[tree("vendor,new\0")], Some("vm-other"));
        let sysinfo = |text| ("proc/sysinfo", text);
        check(&[sysinfo("Type: 3906\nVM00 Control Program: z/VM    6.4.0\n")], Some("zvm"));
        check(&[sysinfo("VM00 Control Program: KVM/Linux\n")], Some("kvm"));
        check(&[sysinfo("Type: 3906\n")], None);
    }
}
