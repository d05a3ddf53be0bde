//! What daemons are fed, and what must become of it.

/// One record that was fed: a line of a salon's booking service.
#[derive(Clone)]
pub(crate) struct Fed {
    pub(crate) timestamp: i64,
    pub(crate) number: usize,
}

impl Fed {
    /// A customer's number.
    pub(crate) fn key(&self) -> String {
        format!("+9198765432{:02}", self.number % 50)
    }

    /// Every third holds an e-mail address, every fifth a phone.
    pub(crate) fn value(&self) -> String {
        self.line(&format!("asha.{}@example.com", self.number), "+91 98765 43210")
    }

    /// What must be left of the value when `token` is left of the key: a number that names the
    /// record is named the same way in both.
    pub(crate) fn redacted(&self, token: &str) -> String {
        self.line("[email]", if self.key() == "+919876543210" { token } else { "[phone]" })
    }

    pub(crate) fn tenant(&self) -> String {
        format!("salon-{}", self.number % 12)
    }

    pub(crate) fn is_error(&self) -> bool {
        self.number.is_multiple_of(11)
    }

    fn line(&self, email: &str, phone: &str) -> String {
        let level = if self.is_error() { "ERROR" } else { "INFO" };
        let number = self.number;
        let message = match number {
            n if n.is_multiple_of(3) => format!("confirmation sent to {email}"),
            n if n.is_multiple_of(5) => format!("customer called from {phone}"),
            n => format!("slot {n} booked"),
        };
        format!(
            "{{\"level\":\"{level}\",\"service\":\"booking-api\",\"tenant_id\":\"{}\",\
             \"n\":{number},\"message\":\"{message}\"}}",
            self.tenant()
        )
    }
}
