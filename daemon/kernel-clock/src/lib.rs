//! Whether the kernel calls the wall clock synchronised: the one thing that only `adjtimex` knows.
//!
//! An NTP daemon of any kind (systemd-timesyncd, chrony, ntpd, PTP) tells the kernel how far off the clock may be. The
//! kernel calls the clock synchronised until nobody has done so for hours, or until somebody sets the time by hand.
//!
//! - **Container**: it shares the clock and the kernel of its host, so the host's NTP daemon counts, as it should.
//! - **Virtual machine**: it has a kernel and a clock of its own. Without an NTP daemon in the guest the clock counts
//!   as unsynchronised, even if the hypervisor keeps it right.
//! - **Sandbox** that denies the call (old seccomp profiles, gVisor, `ProtectClock=yes` of systemd): unknown.

/// The kernel's own limit: a clock that may be further off than 16 s is not synchronised.
const MOST_ERROR_US: i64 = 16_000_000;

/// Whether the kernel calls the wall clock synchronised. `None`: the call is denied. Changes nothing, and needs no
/// privilege.
pub fn is_synchronised() -> Option<bool> {
    // SAFETY: `timex` is a C struct of integers, for which all bits 0 is a value. `modes` is 0, so the call only reads.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is valid for the call, and the kernel keeps none.
    let said = unsafe { libc::adjtimex(&raw mut state) };
    if said < 0 {
        return None;
    }
    #[allow(clippy::useless_conversion, reason = "32 bits wide on some machines")]
    let error_us = i64::from(state.maxerror);
    Some(said != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0 && error_us < MOST_ERROR_US)
}

#[cfg(test)]
mod tests {
    #[test]
    fn kernel_answers_or_denies() {
        let said = super::is_synchronised();
        assert_eq!(said, super::is_synchronised(), "it does not change from one moment to the next");
    }
}
