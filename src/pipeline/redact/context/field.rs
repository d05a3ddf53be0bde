//! What the name of a field says about its value.

use super::lexicon::{Lexicon, WORD_BYTES_MAX, has_stem};

/// What a field's name says about its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::redact) enum FieldClass {
    /// There is no name.
    None,
    /// Phone numbers.
    Phone,
    /// Often a phone number or an address: `to`, `from`, `contact`.
    Contact,
    /// E-mail addresses.
    Email,
    /// A person, by whatever name or number.
    Person,
    /// Prose.
    Text,
    /// Whatever the name around it says: `value`, `raw`.
    Generic,
    /// Names the member beside it: `key`, `type`, `label`.
    Selector,
    /// Message ids, which look like addresses.
    MessageId,
    /// Certainly something else: ids, times, amounts, hashes.
    Negative,
    /// A name that tells nothing.
    Other,
}

static FIELD_WORDS: Lexicon<FieldClass> = Lexicon::new(&[
    (
        FieldClass::Phone,
        "phone phones telephone telephones tel tele telno telefon telefono teléfono telefone \
         telefonnummer telefonnr telefonu telefoon telefoonnummer telefoonnr téléphone tél tlf \
         tfno tfn telf mobile mobiles mobil mobilnummer mobilnr mobiel mobielnummer handy \
         handynummer handynr cell cells cellphone cellular cellulare celular movil móvil portable \
         msisdn msisdns whatsapp wa waid wid jid jids fax faxno telefax sms gsm mob mobno ph phno \
         phoneno mobileno contactno contactnumber phonenumber mobilenumber komorka komórka \
         komorkowy puhelin puhelinnumero telefonszam telefonszám telefonni telefonní telp sdt \
         denwa landline festnetz fixe fisso fijo caller callee callerid cli ani dnis dialed \
         dialled dial isdn phn viber rufnummer telnr telnummer vast ringback callback anrufer \
         msisdnto msisdnfrom voicemail hotline helpline",
    ),
    (
        FieldClass::Email,
        "email emails mail mails emailaddress mailaddress mailadresse cc bcc replyto mailto \
         correo courriel rcpt mailfrom emailid mailid smtp envelope upn mailbox eml epost",
    ),
    (
        FieldClass::Contact,
        "to from recipient recipients contact contacts contacto contatto kontakt number numbers \
         numero número numéro nummer numer sender receiver destination dest addressee calls \
         called calling chat peer remote participant participants q query search term reply \
         alternate emergency vpa upi empfänger empfaenger destinatario destinataire odbiorca \
         ontvanger author address addresses addr party subscriber lookup e164",
    ),
    (
        FieldClass::Person,
        "user users username login customer customers guest guests client clients member members \
         owner who lead referrer actor principal person people patient staff employee attendee \
         sub subject account accounts kunde cliente klient klant by",
    ),
    (
        FieldClass::Text,
        "message messages msg text texts body note notes summary comment comments remark remarks \
         description desc detail details reason content error err errors exception stack \
         stacktrace html payload line log title transcript prompt answer question utterance input \
         output completion data params args request response feedback review memo info event t",
    ),
    (
        FieldClass::Generic,
        "value val values v stringvalue string intvalue int raw entry item items normalized \
         national international formatted primary secondary home work other main default original \
         old new before after",
    ),
    (FieldClass::Selector, "key k name type kind label field attribute property param column"),
    (FieldClass::MessageId, "messageid msgid inreplyto"),
    (
        FieldClass::Negative,
        "id ids uuid guid ulid oid objectid hash hashed sha md count counts total ms us ns sec \
         secs seconds minutes min max millis micros nanos time times timestamp timestamps ts at \
         date dates datetime day epoch offset offsets size bytes len length port pid tid ppid gid \
         seq sequence version ver build code codes status state verified valid model os country \
         lat lon lng latitude longitude geo amount amt price cost fee tax minor cents paise rate \
         ratio score percent digest checksum cksum crc etag nonce token tokens secret signature \
         sig otp pin pincode zip zipcode postal postcode plz cvv iban bic pan card acct utr rrn \
         stan awb sku ean isbn gtin upc barcode batch lot qty quantity index idx row page limit \
         level duration took latency elapsed age ttl expires expiry exp iat nbf heap mem memory \
         cpu lag partition hw ack thread span trace order orders invoice booking reservation ref \
         reference receipt ticket txn tx transaction payment tracking shipment serial imei imsi \
         iccid gst gstin vat siret siren hsn tin ssn aadhaar license licence plate revision rev \
         commit last suffix template format regex pattern rule correlation attempt attempts retry \
         retries goid goroutine session fingerprint nr step eur usd inr gbp balance salary x y z \
         width height weight distance year month week hour ip mac host hostname node pod url uri \
         path file filename agent ua cursor snowflake hmac salt iv addrs pointer blk block inode \
         locker seat room flags mask enabled app sent received delivered failed deadline capacity \
         free used rss records lines generation leader uid",
    ),
]);

/// Parts of longer words that make them name phone numbers: `homephone`, `kontakttelefon`.
const PHONE_STEMS: [&str; 13] = [
    "phone",
    "telefon",
    "teléfono",
    "telefoon",
    "téléphone",
    "mobil",
    "msisdn",
    "whatsapp",
    "cellul",
    "celular",
    "handynr",
    "handynu",
    "rufnummer",
];
const EMAIL_STEMS: [&str; 2] = ["email", "mailad"];

/// What the field name `key` says: its words (split at case, digits and signs) are weighed, the
/// last one most.
pub(in crate::pipeline::redact) fn class_of_key(key: &[u8]) -> FieldClass {
    let mut found = Found::default();
    let mut word = [0; WORD_BYTES_MAX];
    let mut len = 0;
    let mut last_was_lower = false;
    // Long names (paths) are judged by their end.
    for &byte in &key[key.len().saturating_sub(KEY_BYTES_MAX)..] {
        let starts_word = byte.is_ascii_uppercase() && last_was_lower;
        let is_letter = byte.is_ascii_alphabetic() || byte >= 0x80;
        if starts_word || !is_letter {
            found.add(&word[..len]);
            len = 0;
        }
        if is_letter && len < WORD_BYTES_MAX {
            word[len] = byte.to_ascii_lowercase();
            len += 1;
        }
        last_was_lower = byte.is_ascii_lowercase();
    }
    found.add(&word[..len]);
    found.class()
}

/// Longer names are judged by their end.
const KEY_BYTES_MAX: usize = 96;

#[derive(Default)]
struct Found {
    telling: bool,
    phone: bool,
    wa_or_caller: bool,
    email: bool,
    contact: bool,
    negative: bool,
    message: bool,
    last: Option<FieldClass>,
    last_is_id: bool,
}

impl Found {
    fn add(&mut self, word: &[u8]) {
        if word.is_empty() {
            return;
        }
        self.last_is_id = word == b"id";
        if self.last_is_id && self.wa_or_caller {
            return;
        }
        self.wa_or_caller = matches!(word, b"wa" | b"caller" | b"whatsapp" | b"callee");
        let class = FIELD_WORDS.meaning(word).unwrap_or_else(|| class_by_stem(word));
        self.telling |= !matches!(class, FieldClass::Selector | FieldClass::Generic);
        self.phone |= class == FieldClass::Phone;
        self.email |= class == FieldClass::Email;
        self.contact |= class == FieldClass::Contact;
        self.negative |= class == FieldClass::Negative;
        self.message |= word == b"message" || word == b"msg";
        self.last = Some(class);
    }

    fn class(&self) -> FieldClass {
        let Some(last) = self.last else { return FieldClass::Other };
        if self.message && self.last_is_id {
            return FieldClass::MessageId;
        }
        if last == FieldClass::Negative || self.last_is_id && !self.wa_or_caller {
            return FieldClass::Negative;
        }
        if self.phone {
            FieldClass::Phone
        } else if self.email {
            FieldClass::Email
        } else if self.negative {
            FieldClass::Negative
        } else if self.contact {
            FieldClass::Contact
        } else if self.telling && matches!(last, FieldClass::Selector | FieldClass::Generic) {
            FieldClass::Other
        } else {
            last
        }
    }
}

fn class_by_stem(word: &[u8]) -> FieldClass {
    if word.len() < 6 {
        return FieldClass::Other;
    }
    if has_stem(word, &EMAIL_STEMS) {
        FieldClass::Email
    } else if has_stem(word, &PHONE_STEMS) {
        FieldClass::Phone
    } else {
        FieldClass::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_judged_by_its_words() {
        for (key, class) in [
            ("phone", FieldClass::Phone),
            ("customerPhone", FieldClass::Phone),
            ("phone_number", FieldClass::Phone),
            ("phone2", FieldClass::Phone),
            ("user.phone.0", FieldClass::Phone),
            ("wa_id", FieldClass::Phone),
            ("callerId", FieldClass::Phone),
            ("homephone", FieldClass::Phone),
            ("from_number", FieldClass::Contact),
            ("phone_id", FieldClass::Negative),
            ("phone_hash", FieldClass::Negative),
            ("phone_last4", FieldClass::Negative),
            ("contact_id", FieldClass::Negative),
            ("order_no", FieldClass::Negative),
            ("call_duration_ms", FieldClass::Negative),
            ("message_id", FieldClass::MessageId),
            ("emailAddress", FieldClass::Email),
            ("e-mail", FieldClass::Email),
            ("msg", FieldClass::Text),
            ("value", FieldClass::Generic),
            ("frobnicate", FieldClass::Other),
            ("", FieldClass::Other),
        ] {
            assert_eq!(class_of_key(key.as_bytes()), class, "{key}");
        }
    }
}
