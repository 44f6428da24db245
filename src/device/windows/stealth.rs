//! Stealth mode: whether the Windows firewall keeps this host silent about ports that nobody listens on.
//!
//! Owns the judgement of the firewall's settings. With stealth mode (the default) the filtering platform swallows the RST or port unreachable that the
//! system would send for a port without a listener, which is what our connections on the host's address need. Refuses to change a setting.

/// What the registry says of one of the firewall's profiles. `None`: there is no such value.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// `EnableFirewall`.
    pub firewall: Option<u32>,
    /// `DisableStealthMode`.
    pub stealth_disabled: Option<u32>,
}

impl Profile {
    /// Values of a group policy come before the local ones.
    pub fn under(self, policy: Profile) -> Profile {
        Profile { firewall: policy.firewall.or(self.firewall), stealth_disabled: policy.stealth_disabled.or(self.stealth_disabled) }
    }

    /// The firewall does not filter at all. Without any setting nothing is known, and it is taken to be off.
    fn is_off(self) -> bool {
        self.firewall.is_none_or(|value| value == 0)
    }

    /// It filters, but does answer.
    fn answers(self) -> bool {
        self.stealth_disabled.is_some_and(|value| value != 0)
    }
}

/// One line for the user if a profile leaves the host answering; profiles come with their names.
pub fn warning(profiles: &[(&str, Profile)]) -> Option<String> {
    let names =
        |is: fn(Profile) -> bool| profiles.iter().filter(|(_, profile)| is(*profile)).map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let (off, answering) = (names(Profile::is_off), names(|profile| !profile.is_off() && profile.answers()));
    let what = match (off.is_empty(), answering.is_empty()) {
        (true, true) => return None,
        (false, _) => format!("the Windows firewall is off ({off} profile): switch it on (Set-NetFirewallProfile -Enabled True)"),
        (true, false) => {
            format!("the firewall's stealth mode is disabled ({answering} profile): remove the registry value DisableStealthMode")
        }
    };
    Some(format!("the host may reset our connections, since {what}, or use --address for an address of our own"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ON: Profile = Profile { firewall: Some(1), stealth_disabled: None };

    #[test]
    fn the_default_is_silent() {
        assert_eq!(warning(&[("public", ON), ("private", Profile { stealth_disabled: Some(0), ..ON })]), None);
    }

    #[test]
    fn what_answers_is_named_in_one_line() {
        let off = warning(&[("public", ON), ("private", Profile { firewall: Some(0), ..ON })]).unwrap();
        assert!(off.contains("off (private profile)") && !off.contains('\n'), "{off}");
        let loud = warning(&[("public", Profile { stealth_disabled: Some(1), ..ON }), ("domain", ON)]).unwrap();
        assert!(loud.contains("DisableStealthMode") && loud.contains("(public profile)"), "{loud}");
        assert!(warning(&[("public", Profile::default())]).is_some(), "without settings there is nothing to rely on");
    }

    #[test]
    fn a_policy_comes_first() {
        let policy = Profile { firewall: None, stealth_disabled: Some(1) };
        assert_eq!(ON.under(policy), Profile { firewall: Some(1), stealth_disabled: Some(1) });
        assert_eq!(ON.under(Profile::default()), ON);
    }
}
