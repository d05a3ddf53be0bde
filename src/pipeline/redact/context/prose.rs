//! What the words near a number say about it, in the languages of the regions.

use super::lexicon::{Lexicon, WORD_BYTES_MAX, has_stem};

/// What a word near a number says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::redact) enum Cue {
    /// It is a phone number.
    Phone,
    /// Somebody is asked to get in touch.
    Reach,
    /// It is a number of some kind.
    Number,
    /// It is somebody's own.
    Own,
    /// It is a person, by name or number.
    Person,
    /// It is an e-mail address.
    Email,
    /// It is something else.
    Negative,
    /// A unit or currency: before or behind an amount.
    Unit,
    /// Says nothing, and nothing comes between.
    Filler,
}

static PROSE_WORDS: Lexicon<Cue> = Lexicon::new(&[
    (
        Cue::Phone,
        "phone phones telephone tel telefon telefono teléfono telefone telefonnummer telefonnr \
         telefonu telefonem telefoon telefoonnummer telefoonnr téléphone tél tlf tfno telf mobile \
         mobil mobilnummer mobilnr mobiel handy handynummer handynr cell cellphone cellulare \
         celular movil móvil portable msisdn whatsapp wa whatsap watsapp fax telefax sms gsm mob \
         mobno ph phn phno phoneno mobileno contactno phonenumber komórka komorka komórkowy \
         komórkowego puhelin telefonszám telp sdt landline festnetz festnetznummer fixe fisso \
         fijo gpay phonepe paytm rufnummer callback rückruf rueckruf rückrufnummer caller callee \
         callerid msisdns jid viber signal telegram imessage tel: hotline helpline телефон тел \
         моб мобильный फोन फ़ोन मोबाइल मोबाईल व्हाट्सएप هاتف جوال موبايل الهاتف تلفن موبایل 電話 携帯 \
         手机 电话 τηλέφωνο κινητό טלפון โทร เบอร์ 전화 휴대폰 điện cep gsmnummer mobitel mobilní ফোন \
         மொபைல் ఫోన్ ఫోను ફોન ਫੋਨ",
    ),
    (
        Cue::Reach,
        "call calls called calling ring dial dialed dialled dialing text texted reach reachable \
         contact anrufen ruf rufen rufe anruf erreichen erreiche erreichbar erreichst llámame \
         llamame llamar llama llame llámenme chiama chiamare chiamatemi chiamami chiamate appelez \
         appeler appelle appelez-moi rappeler rappelez joindre joignable contacter dzwonić \
         dzwonic zadzwoń zadzwonić zadzwon kontakt bel bellen bereiken bereikbaar opbellen ligar \
         ligue ringup callme sip kontaktnummer contactar contattare contattami contacto recapito \
         coordonnées zentrale centralino centralita \
         switchboard कॉल संपर्क اتصل звоните позвоните",
    ),
    (
        Cue::Number,
        "number numbers numero número numéro nummer numer nr no num nos n nº n° nomor numara \
         numarası число номер नंबर नम्बर رقم رقمي 番号 号码 αριθμός מספר no. digits numerem numeru \
         numru nambar",
    ),
    (
        Cue::Own,
        "my mein meine meiner meinem unser unsere mio mia mi mis mon ma mijn mój moj moja mera \
         meri mere apna his her their your our ihre deine votre notre vostro tuo su tu meu minha \
         min mitt moje mojego मेरा मेरी आपका मेरे benim its partner partners wife husband \
         alternate alternative alt second privat geschäftlich dienstlich perso domicile domicilio \
         ufficio oficina büro home office new neue nuevo nouveau nuovo nowy nieuwe correct",
    ),
    (
        Cue::Person,
        "customer customers kunde kundin client cliente klant klient guest gast user lead member \
         patient",
    ),
    (
        Cue::Email,
        "email emails mail mails e-mail mailadresse correo courriel mailid emailid gmail ईमेल \
         mailaddress почта maila mailem",
    ),
    (
        Cue::Negative,
        "bill bills challan folio order orders bestellung bestellnr commande pedido ordine zamówienie zamowienie \
         bestelling invoice rechnung facture factura fattura faktura factuur booking bookings \
         buchung réservation reservation reserva prenotazione rezerwacja rezerwacji reservering \
         ref reference referenz référence referencia riferimento refno txn transaction \
         transaktion transacción awb tracking track shipment sendung colis paket parcel paquete \
         pacco paczka przesyłka pakket card karte kundenkarte carte tarjeta carta karta kaart \
         loyalty voucher gutschein coupon bon bonnummer account konto kontonummer compte cuenta \
         conto rekening iban bic ifsc swift pin pincode otp postcode plz zip cap code codes \
         codice código codigo kod kodu ticket case vorgang id ids uid uuid pid tid kundennr \
         kundennummer klantnummer serial seriennummer série sku ean isbn batch lot build version \
         rev revision license licence lizenz port offset zamówienia zamowienia prenotazioni \
         rezerwacyjny size bytes length epoch timestamp time ts seq sequence siret siren vat gst \
         gstin hsn pan aadhaar aadhar tax steuernummer ust nip pesel regon bsn kvk dni nie nif \
         cif ssn passport imei utr rrn stan amount total price preis prix precio prezzo cena \
         prijs paid cost costs kosten worth seit since took after duration lag checksum crc hash \
         sha md5 commit block session sess trace span request req thread process job task row \
         rows line page chapter seat room item items qty score queue partition instance node \
         shard receipt quittung reçu ricevuta recibo paragon coord geo lat lon gps model serie \
         receiptno orderid bookingid msgid correlation correlationid vin vm at_time \
         buchungsnummer bestellnummer rechnungsnummer gutscheinnummer auftragsnummer auftrag \
         sendungsnummer vorgangsnummer kartennummer artikelnummer artikel ordernummer \
         boekingsnummer boeking factuurnummer chassis engine lottery meter zähler zählernummer \
         policy contract vertrag vertragsnummer contrat contrato contratto umowa umowy",
    ),
    (
        Cue::Unit,
        "ms us ns µs sec secs seconds minutes mins hours days byte kb mb gb kib mib gib eur usd \
         inr gbp pln chf rs rupees euro euros dollars zł zl rupee km kg percent points times \
         records files users msgs messages requests ops keys mah ml gm lakh crore pts tokens \
         entries lines objects blocks ticks cycles",
    ),
    (
        Cue::Filler,
        "is ist es est c'est è é jest hai ka ke ki ko par on at to the me him them under unter au al le \
         la el il lo los op pod for für fur per via it a an der die das dem den or and und oder y \
         o et ou e i of von de del di du da with mit in from by this diese dieser questo este ce \
         please pls bitte here as was = are using used that andar है का पर to: only also now ye \
         yeh van het een w z na se si you can so que again lautet mich sie moi mir number:",
    ),
]);

/// Endings that make a compound name a number of something: `Kundennummer`, `Auftragsnr`.
const NUMBER_ENDINGS: [&str; 5] = ["nummer", "number", "numer", "nr", "num"];
const PHONE_STEMS: [&str; 10] = [
    "telefon", "telefoon", "phone", "handy", "mobil", "mobiel", "whatsapp", "rufnum", "kontakt",
    "contact",
];

/// What `word` (any case) says about a number near it.
pub(in crate::pipeline::redact) fn cue_of(word: &[u8]) -> Option<Cue> {
    let mut lower = [0; WORD_BYTES_MAX];
    let lower = lower.get_mut(..word.len())?;
    lower.copy_from_slice(word);
    lower.make_ascii_lowercase();
    PROSE_WORDS.meaning(lower).or_else(|| compound(lower))
}

fn compound(word: &[u8]) -> Option<Cue> {
    if word.len() < 6 || word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    if has_stem(word, &PHONE_STEMS) {
        return Some(Cue::Phone);
    }
    NUMBER_ENDINGS.iter().any(|ending| word.ends_with(ending.as_bytes())).then_some(Cue::Negative)
}
