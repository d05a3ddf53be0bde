//! Lines written from knowledge of how people and services write, beside every corpus: what is marked
//! goes, and nothing else.

use crate::subject::Subjects;

/// Region and line; `‹p:...›` is a phone number, `‹e:...›` an e-mail address.
const LINES: &[(&str, &str)] = &[
    // Chats, India.
    ("IN", r#"{"role":"user","text":"mera number ‹p:98201 55443› hai, kal call karna"}"#),
    ("IN", r#"{"text":"bhaiya whatsapp kar do ‹p:9820155443› pe, cash dunga"}"#),
    ("IN", r#"{"text":"मेरा नंबर ‹p:९८२०१५५४४३› है"}"#),
    ("IN", r#"{"text":"कृपया ‹p:98201-55443› पर कॉल करें"}"#),
    ("IN", r#"{"text":"என் மொபைல் எண் ‹p:98401 23456›"}"#),
    ("IN", r#"{"text":"நாளை 3 மணிக்கு வரலாமா? ரூ 1500 ஆகுமா"}"#),
    ("IN", r#"{"text":"నా ఫోన్ నంబర్ ‹p:9848012345›"}"#),
    ("IN", r#"{"text":"my num is ‹p:98201.55443› pls confirm slot at 4:30"}"#),
    ("IN", r#"{"text":"call me on ‹p:+91 (98201) 55443› or mail ‹e:rohit.k@gmail.com›"}"#),
    ("IN", r#"{"text":"landline is ‹p:022-2640 1234›, ask for Meena"}"#),
    ("IN", r#"{"text":"STD ‹p:(080) 2345 6789› ext is not working"}"#),
    ("IN", r#"{"text":"ph: ‹p:91-98201-55443›"}"#),
    ("IN", r#"{"text":"contact no. ‹p:+91.98201.55443›"}"#),
    ("IN", r#"{"text":"alternate number: ‹p:098201 55443›"}"#),
    ("IN", r#"{"text":"ping me at ‹e:rohit dot k at gmail dot com›"}"#),
    ("IN", r#"{"text":"paytm karo ‹p:9820155443›@paytm ya gpay ‹p:9820155443›"}"#),
    ("IN", r#"{"text":"Order 4029 8811 2234 ready, OTP 448291, Rs 1,24,500.00 paid"}"#),
    ("IN", r#"{"text":"table for 4 on 12/11/2026 at 20:30, budget 5000-7000"}"#),
    ("IN", r#"{"text":"pincode 400 050, flat 1203, gate 4"}"#),
    ("IN", r#"{"text":"aadhaar XXXX XXXX 4821 verified, PAN ABCDE1234F"}"#),
    ("IN", r#"{"text":"PNR 2845671234 confirmed, coach B4 seat 23"}"#),
    ("IN", r#"{"text":"vehicle MH 02 BX 4455 parked, token 8841"}"#),
    // Chats, Germany.
    ("DE", r#"{"text":"Meine Handynummer ist ‹p:0171 / 123 45 67›"}"#),
    ("DE", r#"{"text":"erreichen Sie mich unter ‹p:0151-2345 6789› ab 18 Uhr"}"#),
    ("DE", r#"{"text":"Tel. ‹p:+49 (0)89 / 12 34 56 - 0›"}"#),
    ("DE", r#"{"text":"Fax: ‹p:030 901820-99›"}"#),
    ("DE", r#"{"text":"ruf mich an: ‹p:0 171 123 4567›"}"#),
    ("DE", r#"{"text":"schreib an ‹e:max.mueller(at)gmx(punkt)de›"}"#),
    ("DE", r#"{"text":"Mail geht an ‹e:jürgen.groß@müller-friseure.de› raus"}"#),
    ("DE", r#"{"text":"Termin am 03.11.2026 um 14:30 Uhr, 45,00 EUR, Dauer 90 Min"}"#),
    ("DE", r#"{"text":"Rechnung 2026-0004711 über 1.234.567,89 € vom 01.02.2026"}"#),
    ("DE", r#"{"text":"IBAN DE89 3704 0044 0532 0130 00, BIC COBADEFFXXX"}"#),
    ("DE", r#"{"text":"Kundennummer 00471234567, PLZ 10115 Berlin"}"#),
    ("DE", r#"{"text":"Steuernummer 27/123/45678, USt-IdNr. DE123456789"}"#),
    ("DE", r#"{"text":"Öffnungszeiten 09:00-18:30, Sa 10-14"}"#),
    // France.
    ("FR", r#"{"text":"mon numéro c'est le ‹p:06.12.34.56.78›"}"#),
    ("FR", r#"{"text":"appelez-moi au ‹p:06 12 34 56 78› svp"}"#),
    ("FR", r#"{"text":"tél : ‹p:+33 (0)6 12 34 56 78›"}"#),
    ("FR", r#"{"text":"joignable au ‹p:01-42-68-53-00› demain"}"#),
    ("FR", r#"{"text":"écris-moi à ‹e:chloé.martin@orange.fr›"}"#),
    ("FR", r#"{"text":"SIRET 732 829 320 00074, TVA FR 40 303265045"}"#),
    ("FR", r#"{"text":"rdv le 12/11 à 14h30, 45 € TTC"}"#),
    ("FR", r#"{"text":"colis 6A 123 456 789 01 livré"}"#),
    // Spain, Italy.
    ("ES", r#"{"text":"mi teléfono es el ‹p:612 34 56 78›"}"#),
    ("ES", r#"{"text":"llámame al ‹p:+34 612 345 678›"}"#),
    ("ES", r#"{"text":"whatsapp ‹p:612345678› gracias"}"#),
    ("ES", r#"{"text":"pedido 612345678 entregado"}"#),
    ("ES", r#"{"text":"DNI 12345678Z, cita el 12-11-2026 a las 10:15"}"#),
    ("IT", r#"{"text":"il mio cellulare è ‹p:347 123 4567›"}"#),
    ("IT", r#"{"text":"chiamami al ‹p:+39 347 1234567›"}"#),
    ("IT", r#"{"text":"numero fisso ‹p:02 1234 5678›, chiedere di Anna"}"#),
    ("IT", r#"{"text":"P.IVA 12345678901, ordine n. 3471234567"}"#),
    ("IT", r#"{"text":"scrivi a ‹e:anna.rossi@libero.it› oppure ‹e:info@salone-rossi.it›"}"#),
    // Application logs.
    (
        "IN",
        r#"2026-11-23T10:15:30.123+05:30 INFO [http-nio-8080-exec-7] c.c.BookingService - created booking 7f3a2b19 for +05:30 slot 1763877600000"#,
    ),
    (
        "IN",
        r#"level=info ts=1763877600.123 caller=main.go:142 msg="sms sent" to=‹p:+919820155443› provider=msg91 id=5f2b8c1e9d"#,
    ),
    (
        "IN",
        r#"level=warn msg="delivery failed" recipient=‹e:rohit.k@gmail.com› attempt=3 code=550"#,
    ),
    (
        "IN",
        r#"Nov 23 10:15:30 web-1 postfix/smtp[21345]: 4F2B81C9D: to=<‹e:rohit.k@gmail.com›>, relay=gmail-smtp-in.l.google.com[142.250.4.26]:25, delay=1.2, dsn=2.0.0, status=sent (250 2.0.0 OK 1763877600 d9443c01a7336)"#,
    ),
    (
        "IN",
        r#"10.0.3.17 - - [23/Nov/2026:10:15:30 +0530] "GET /otp?mobile=‹p:919820155443›&v=2 HTTP/1.1" 200 5123 "-" "okhttp/4.9.3""#,
    ),
    (
        "IN",
        r#"10.0.3.17 - - [23/Nov/2026:10:15:30 +0530] "POST /v1/verify?phone=‹p:%2B919820155443› HTTP/1.1" 204 0"#,
    ),
    (
        "IN",
        r#"{"event":"login","user":"‹e:rohit.k+work@gmail.com›","ip":"2001:db8::8a2e:370:7334"}"#,
    ),
    (
        "IN",
        r#"ERROR: duplicate key value violates unique constraint "users_email_key" DETAIL: Key (email)=(‹e:rohit.k@gmail.com›) already exists."#,
    ),
    (
        "IN",
        r#"ERROR: duplicate key value violates unique constraint "users_phone_key" DETAIL: Key (phone)=(‹p:9820155443›) already exists."#,
    ),
    (
        "IN",
        r#"INSERT INTO guests (id,name,mobile,created) VALUES (8812345678,'Rohit','‹p:9820155443›','2026-11-23')"#,
    ),
    ("IN", r#"Caused by: java.lang.IllegalArgumentException: Invalid phone: ‹p:98201 55443›"#),
    ("IN", r#"at com.sun.proxy.$Proxy123.invoke(Unknown Source) [spring-core-5.3.20.jar:5.3.20]"#),
    (
        "IN",
        r#"{"to":["whatsapp:‹p:+919820155443›"],"from":"whatsapp:‹p:+14155238886›","sid":"SM8f3b2a1c9d0e4f5a6b7c8d9e0f1a2b3c"}"#,
    ),
    (
        "IN",
        r#"{"entry":[{"changes":[{"value":{"metadata":{"display_phone_number":"‹p:912240001234›","phone_number_id":"106540352242922"},"contacts":[{"profile":{"name":"R"},"wa_id":"‹p:919820155443›"}]}}]}]}"#,
    ),
    (
        "IN",
        r#"{"event":"call","caller":"‹p:09820155443›","to":"‹p:08047112233›","duration":182,"recording":"s3://rec/2026/11/23/ab12.mp3"}"#,
    ),
    (
        "IN",
        r#"{"customer":{"contact":{"mobile":{"country_code":"91","number":"‹p:9820155443›"}}}}"#,
    ),
    ("IN", r#"{"msg":"cache miss key=slot:8812:20261123:0930 ttl=3600000 took 1234567ns"}"#),
    (
        "IN",
        r#"{"msg":"consumer group rebalance gen=1763877600 member=consumer-1-8f14e45f-ceea-467f-a0c6-8812345678ab"}"#,
    ),
    ("IN", r#"{"lat":19.0760123,"lng":72.8777456,"acc":12.5}"#),
    ("IN", r#"{"msg":"heap 1073741824 used 536870912 committed 805306368"}"#),
    ("IN", r#"{"msg":"shipment AWB 7788123456 dispatched via bluedart"}"#),
    ("IN", r#"{"utr":"HDFCN52026112312345678","amount":"12,500.00","rrn":"632718123456"}"#),
    ("IN", r#"{"msg":"git clone git@github.com:cazo/booking.git at 9f8e7d6"}"#),
    ("IN", r#"{"msg":"npm install @cazo/ui@2.14.0 and left-pad@1.3.0"}"#),
    ("IN", r#"{"msg":"kafka user User:CN=app@REALM.LOCAL authorised"}"#),
    ("IN", r#"{"dsn":"postgres://app:s3cret@db-1.internal:5432/booking"}"#),
    // Second lot.
    ("IN", r#"{"text":"mujhe +91 wale number pe mat karo, ‹p:8454 012 345› pe karo call"}"#),
    ("IN", r#"{"text":"Priya Sharma, ‹p:7021234567›, 2 haircuts at 5pm"}"#),
    ("IN", r#"{"text":"two numbers: ‹p:7021234567› and ‹p:7021234568›"}"#),
    (
        "IN",
        r#"{"messages":[{"role":"assistant","content":"May I have your phone number?"},{"role":"user","content":"‹p:7021234567›"}]}"#,
    ),
    (
        "IN",
        r#"bot> Aapka mobile number?
user> ‹p:70212 34567›
bot> Dhanyavaad!"#,
    ),
    (
        "IN",
        r#"{"template":"Hi {{1}}, your OTP is {{2}}","params":["Asha","448291"],"to":"‹p:917021234567›"}"#,
    ),
    (
        "IN",
        r#"{"vcard":"BEGIN:VCARD\nFN:Asha\nTEL;TYPE=CELL:‹p:+91 70212 34567›\nEMAIL:‹e:asha@rediffmail.com›\nEND:VCARD"}"#,
    ),
    ("IN", r#"{"text":"email:‹e:asha_k@yahoo.co.in›,ph:‹p:7021234567›"}"#),
    ("IN", r#"{"text":"mail id ‹e:asha@cazo.ai›."}"#),
    ("IN", r#"{"guest_phone":null,"guest_alt":"‹p:+91-70212-34567›","seat":"12A"}"#),
    (
        "IN",
        r#"{"attributes":[{"key":"enduser.phone","value":{"stringValue":"‹p:7021234567›"}},{"key":"http.status_code","value":{"intValue":"200"}}]}"#,
    ),
    (
        "IN",
        r#"{"query":"SELECT * FROM guests WHERE mobile = '‹p:7021234567›' AND salon_id = 8812345678"}"#,
    ),
    ("IN", r#"{"query":"UPDATE guests SET email='‹e:asha@cazo.ai›' WHERE id=7021234567"}"#),
    ("IN", r#"{"msg":"Sending SMS to ‹p:7021234567› [template=4021]"}"#),
    ("IN", r#"{"msg":"OTP verified for ‹p:+917021234567› in 1234 ms"}"#),
    ("IN", r#"{"msg":"guest 7021234567 checked in"}"#),
    ("IN", r#"{"msg":"guest with mobile ending 4567 checked in"}"#),
    ("IN", r#"{"msg":"processed 7021234567 rows in 12.5s"}"#),
    ("IN", r#"{"msg":"job 7021234567 done, next at 1763877600"}"#),
    ("IN", r#"{"invoice_no":"INV/2026-27/00012345","total":12450.50}"#),
    ("IN", r#"{"gstin":"27AAPFU0939F1ZV","hsn":"99972","cgst":112.5}"#),
    ("IN", r#"{"text":"slots: 10:00, 10:30, 11:00, 11:30, 12:00"}"#),
    ("IN", r#"{"text":"1. Haircut 450 2. Spa 1200 3. Facial 2500"}"#),
    ("IN", r#"{"text":"timing 10-7, mon-sat, sec 17, sco 112-113"}"#),
    ("IN", r#"{"trace":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#),
    ("IN", r#"{"msg":"upload part 3/12 etag 9b2cf535f27731c974343645a3985328 size 8388608"}"#),
    ("IN", r#"{"msg":"k8s pod booking-api-7d9f8b6c5d-x2x4z restarted 3 times in 600s"}"#),
    ("IN", r#"{"msg":"ami-0123456789abcdef0 i-0abcd1234ef567890 vpc-0987654321fedcba0"}"#),
    ("IN", r#"{"bbox":[72.775,18.892,72.986,19.271],"zoom":12}"#),
    (
        "IN",
        r#"{"model":"gpt-4o-2024-08-06","usage":{"prompt_tokens":1234,"completion_tokens":567}}"#,
    ),
    ("IN", r#"{"embedding":[0.0123456,-0.9876543,0.1234567]}"#),
    ("IN", r#"{"msg":"partition 7 offset 7021234567 lag 0 leader 3"}"#),
    (
        "IN",
        r#"{"msg":"ES took 12ms hits 10000+ shards 5/5 scroll DXF1ZXJ5QW5kRmV0Y2gBAAAAAAAAAD4WYm9laVYtZndUQlNsdDcwakFMNjU1QQ=="}"#,
    ),
    ("DE", r#"{"text":"Danke! Meine Nummer: ‹p:+49 1573 5987654›"}"#),
    ("DE", r#"{"text":"privat ‹p:06221-123456›, geschäftlich ‹p:06221-654321›"}"#),
    ("DE", r#"{"text":"ich bin unter der ‹p:0176 43210987› erreichbar"}"#),
    ("DE", r#"{"text":"Telefon ‹p:(07031) 98 76 54›"}"#),
    ("DE", r#"{"text":"Mandatsref M-2026-0815, Gläubiger-ID DE98ZZZ09999999999"}"#),
    ("DE", r#"{"text":"Zählerstand 0012345678, Vertragsnr. 4711-0815-1234"}"#),
    ("DE", r#"{"text":"Sendung 00340434161094042557 ist unterwegs"}"#),
    ("DE", r#"{"text":"am 24.12. von 10-14 Uhr, Raum 1.23, Haus 4-5"}"#),
    ("DE", r#"{"text":"e-mail: ‹e:info [at] salon-schick [dot] de›"}"#),
    ("FR", r#"{"text":"mon portable : ‹p:07 81 23 45 67›"}"#),
    ("FR", r#"{"text":"contact : ‹e:salon.belle-coupe@wanadoo.fr› / ‹p:04 78 12 34 56›"}"#),
    ("FR", r#"{"text":"n° de commande 0612345678"}"#),
    ("FR", r#"{"text":"code 75 011, 3e étage, digicode 12A45"}"#),
    ("ES", r#"{"text":"mi móvil: ‹p:+34-699-12-34-56›"}"#),
    ("ES", r#"{"text":"el fijo es ‹p:93 123 45 67›"}"#),
    ("ES", r#"{"text":"nº de pedido 699123456, importe 1.250,00 €"}"#),
    ("ES", r#"{"text":"correo ‹e:maria.garcia@telefonica.net›"}"#),
    ("IT", r#"{"text":"tel. ‹p:06/12345678› fax ‹p:06/12345679›"}"#),
    ("IT", r#"{"text":"mandami un messaggio su ‹p:3471234567›"}"#),
    ("IT", r#"{"text":"codice fiscale RSSMRA85T10A562S"}"#),
    ("IT", r#"{"text":"prenotazione del 12.11.2026 ore 16.30, 2 persone"}"#),
    ("PT", r#"{"text":"o meu número é ‹p:912 345 678›"}"#),
    ("PT", r#"{"text":"ligue para ‹p:+351 21 123 4567›"}"#),
    // Third lot.
    ("IN", r#"{"text":"call ‹p:7021234567› / ‹p:7021234568›"}"#),
    ("IN", r#"{"text":"mob ‹p:7021234567›, ‹p:7021234568›"}"#),
    ("IN", r#"{"text":"aap mujhe ‹p:7021234567› par call kar sakte hain"}"#),
    (
        "IN",
        r#"{"text":"send the invoice to ‹e:accounts@salon-bliss.co.in› and ‹e:meena.iyer@salon-bliss.co.in›"}"#,
    ),
    ("IN", r#"{"text":"my email is asha ‹e:kumar@gmail.com›"}"#),
    ("IN", r#"{"text":"gmail ‹e:asha.k @ gmail.com›"}"#),
    ("IN", r#"{"text":"asha at the rate gmail dot com"}"#),
    ("IN", r#"{"text":"look at example.com and at shop.de"}"#),
    (
        "IN",
        r#"{"text":"‹p:+91 70212-34567›
Thanks"}"#,
    ),
    ("IN", r#"{"text":"number hai sat shunya do ek"}"#),
    ("IN", r#"{"text":"₹ 70,21,234 total, 18% gst"}"#),
    ("IN", r#"{"text":"rate 70212.34 per 100 units"}"#),
    ("IN", r#"{"text":"Bill no 7021234567 dated 2/11/26"}"#),
    ("IN", r#"{"text":"account 702123456789 ifsc HDFC0001234"}"#),
    ("IN", r#"{"text":"card 4111 1111 1111 1111 exp 12/27"}"#),
    ("IN", r#"{"text":"UPI ref 632718123456 success"}"#),
    ("IN", r#"{"text":"insta @asha_k_2026, twitter @cazo"}"#),
    ("IN", r#"{"caller_id":"‹p:+912240001234›","call_sid":"CA8812345678901234567890123456789a"}"#),
    ("IN", r#"sip:‹e:+912240001234@sbc.example.net›:5060;transport=tls"#),
    ("IN", r#"{"uri":"tel:‹p:+91-22-4000-1234›"}"#),
    ("IN", r#"{"jid":"‹p:917021234567›@s.whatsapp.net","push_name":"Asha"}"#),
    ("IN", r#"{"jid":"120363041234567890@g.us","subject":"Team"}"#),
    ("IN", r#"{"chat_id":-1001234567890,"message_id":4821}"#),
    ("IN", r#"{"telegram_user_id":702123456,"first_name":"Asha"}"#),
    ("IN", r#"{"request":{"headers":{"X-Phone":"‹p:7021234567›","X-Request-Id":"8021234561"}}}"#),
    ("IN", r#"curl -d 'phone=‹p:7021234567›&otp=448291' https://api.cazo.ai/v1/otp"#),
    ("IN", r#"GET https://api.cazo.ai/v1/guests/‹e:asha%40cazo.ai›/bookings?page=2"#),
    ("IN", r#"wget https://wa.me/‹p:917021234567›?text=hi"#),
    (
        "IN",
        r#"{"csv":"name,phone
Asha,‹p:7021234567›
Ravi,‹p:7021234568›"}"#,
    ),
    ("IN", r#"[Asha Kumar <‹e:asha@cazo.ai›>] wrote:"#),
    ("IN", r#"Message-ID: <20261123101530.4F2B81C9D@mail.cazo.ai>"#),
    ("IN", r#"Reply-To: "Asha" <‹e:asha@cazo.ai›>"#),
    ("IN", r#"{"lock":"booking@8812345678","holder":"worker-3@ip-10-0-3-17"}"#),
    ("IN", r#"com.cazo.Booking@7a81197d"#),
    (
        "IN",
        r#"image: ghcr.io/cazo/api@sha256:9b2cf535f27731c974343645a3985328a1b2c3d4e5f60718293a4b5c6d7e8f90"#,
    ),
    ("IN", r#"cron: '30 4 1,15 * 5' next 1763877600"#),
    ("IN", r#"took=1234567us rss=8812345678 fd=1021 conn=4096/8192"#),
    ("IN", r#"x-amzn-trace-id: Root=1-67891233-abcdef012345678912345678"#),
    ("IN", r#"{"sequenceNumber":"49590338271490256608559692538361571095921575989136588898"}"#),
    ("IN", r#"{"ean":"8901234567894","sku":"SH-100-2500ML","hsn_code":"33051090"}"#),
    ("DE", r#"{"text":"Rückruf bitte unter ‹p:+49 (0) 40 - 123 456 78›"}"#),
    ("DE", r#"{"text":"Durchwahl -123, Zentrale ‹p:0711/1234-0›"}"#),
    ("DE", r#"{"text":"Handy: ‹p:0049 171 1234567›"}"#),
    ("DE", r#"{"text":"Frau Schmidt, ‹p:0221 9876543›, morgen 9 Uhr"}"#),
    ("DE", r#"{"text":"HRB 123456 B, Amtsgericht Charlottenburg"}"#),
    ("DE", r#"{"text":"Auftrag 4500012345 Pos. 10, Menge 1.000,000 ST"}"#),
    ("DE", r#"{"text":"EAN 4006381333931, Charge 2026-11-0815"}"#),
    ("DE", r#"{"text":"Kto 1234567890 BLZ 10050000"}"#),
    ("FR", r#"{"text":"voici mon 06 : ‹p:06 98 76 54 32›"}"#),
    ("FR", r#"{"text":"rappelez Mme Durand ‹p:0698765432› svp"}"#),
    ("FR", r#"{"text":"n° de sécu 1 85 05 78 006 084 36"}"#),
    ("FR", r#"{"text":"réf 06-98-76"}"#),
    ("ES", r#"{"text":"puedes llamar a mi mujer, ‹p:699 123 456›"}"#),
    ("ES", r#"{"text":"CIF B12345678, factura 2026/001234"}"#),
    ("IT", r#"{"text":"cell. ‹p:347.1234567›"}"#),
    ("IT", r#"{"text":"CAP 20121 Milano, via Roma 12/3"}"#),
    // Fourth lot: what must stay, and forms that hide.
    ("IN", r#"{"msg":"GC pause 1234.567ms, heap 2048M->1024M(4096M), id 8812345678"}"#),
    ("IN", r#"{"msg":"retry in 30s (attempt 4 of 10), backoff 1500-3000 ms"}"#),
    ("IN", r#"{"msg":"upserted 1234567 of 8812345678 keys"}"#),
    ("IN", r#"{"msg":"cursor 1763877600000-0 stream bookings"}"#),
    ("IN", r#"{"msg":"slot 0930-1015 on 20261123 for chair 4"}"#),
    ("IN", r#"{"msg":"HTTP 200 12345678 bytes in 0.123 s from 103.21.244.17"}"#),
    (
        "IN",
        r#"{"ua":"Mozilla/5.0 (Linux; Android 14; SM-A546E) AppleWebKit/537.36 Chrome/126.0.6478.122 Mobile"}"#,
    ),
    ("IN", r#"{"build":"2026.11.23.1015","commit":"9876543210abcdef9876543210abcdef98765432"}"#),
    ("IN", r#"{"razorpay_order_id":"order_9A33XWu170gUtm","amount":1245000}"#),
    ("IN", r#"{"msg":"lock 9876543210:17 released by tx 0x8812345678"}"#),
    ("IN", r#"{"msg":"score 98.7654321 threshold 95.0"}"#),
    ("IN", r#"{"dims":"1920x1080","crop":"100,200,1820,880"}"#),
    ("IN", r#"{"msg":"customers 12, staff 4, seats 16, revenue 98765.43"}"#),
    ("IN", r#"{"week":"2026-W48","range":"2026-11-23/2026-11-29"}"#),
    ("IN", r#"{"text":"loyalty points 9876543210 se zyada nahi ho sakte"}"#),
    ("IN", r#"{"text":"meter reading 98765 43210 units"}"#),
    ("IN", r#"{"msg":"topic app.logs@7 epoch 12"}"#),
    ("IN", r#"{"msg":"systemd: getty@tty1.service: Deactivated"}"#),
    ("IN", r#"{"msg":"@Transactional on BookingService.create()"}"#),
    ("IN", r#"{"msg":"ssh deploy@10.0.3.17 failed"}"#),
    ("IN", r#"{"msg":"cc: @frontend-team, see https://x.com/@cazo"}"#),
    ("IN", r#"{"text":"<a href=\"tel:‹p:+917021234567›\">call</a>"}"#),
    ("IN", r#"{"text":"mail: &lt;‹e:asha.k&#64;gmail.com›&gt;"}"#),
    ("IN", r#"{"text":"phone%3D‹p:7021234567›%26x%3D1"}"#),
    ("IN", r#"{"text":"\u0022phone\u0022: \u0022‹p:7021234567›\u0022"}"#),
    ("IN", r#"{"text":"call ‹p:70 21 23 45 67› now"}"#),
    ("IN", r#"{"text":"mobile: ‹p:7-0-2-1-2-3-4-5-6-7›"}"#),
    ("IN", r#"{"text":"mobile number is ‹p:7 0 2 1 2 3 4 5 6 7›"}"#),
    ("IN", r#"{"text":"whatsapp:‹p:+91 70212 34567›,name:Asha"}"#),
    ("IN", r#"{"phones":["‹p:7021234567›","‹p:+91 70212 34568›"],"ids":["8031234599"]}"#),
    ("IN", r#"{"contact":{"type":"phone","value":"‹p:7021234567›"}}"#),
    ("IN", r#"{"field":"mobile","old":"‹p:7021234567›","new":"‹p:7021234568›"}"#),
    ("IN", r#"{"errors":[{"param":"phone","msg":"Invalid value","value":"‹p:70212345›"}]}"#),
    ("IN", r#"phone: '‹p:7021234567›', name: 'Asha' }"#),
    ("IN", r#"Guest(id=8812345678, name=Asha, phone=‹p:7021234567›, email=‹e:asha@cazo.ai›)"#),
    ("IN", r#"<guest><phone>‹p:7021234567›</phone><id>8812345678</id></guest>"#),
    ("IN", r#"phone_number: "‹p:7021234567›""#),
    ("DE", r#"{"text":"Frau Müller (‹p:0171-1234567›) kommt um 15 Uhr"}"#),
    ("DE", r#"{"text":"SMS an ‹p:+491711234567› fehlgeschlagen, Code 21614"}"#),
    ("DE", r#"{"text":"Bestellung 0171-1234567 wurde versandt"}"#),
    ("DE", r#"{"text":"Kontakt: ‹e:a.schmidt@web.de›; Mobil: ‹p:0160/98765432›"}"#),
    ("DE", r#"{"text":"ISBN 978-3-16-148410-0, Seite 12-14"}"#),
    ("DE", r#"{"text":"Version 10.0.19045.3693, Build 19045"}"#),
    ("FR", r#"{"text":"fax. ‹p:01.42.68.53.01›"}"#),
    ("ES", r#"{"text":"tfno. ‹p:91 123 45 67›"}"#),
    ("NL", r#"{"text":"KvK 12345678, btw NL001234567B01"}"#),
    ("US", r#"{"text":"reach me ‹p:4155552671› tmrw"}"#),
    ("US", r#"{"text":"1-800-flowers and case 415-555-26"}"#),
    ("GB", r#"{"text":"my mobile is ‹p:07700 900 123› thanks"}"#),
    ("GB", r#"{"text":"ring ‹p:(020) 7946 0958› after six"}"#),
    ("GB", r#"{"text":"NI number QQ 12 34 56 C, sort code 12-34-56 account 12345678"}"#),
    ("US", r#"{"text":"call ‹p:(415) 555-2671 x204›"}"#),
    ("US", r#"{"text":"my cell: ‹p:415.555.2671›"}"#),
    ("US", r#"{"text":"SSN ending 6789, confirmation 4155552671"}"#),
    ("NL", r#"{"text":"bel me op ‹p:06-12345678› of mail ‹e:piet@ziggo.nl›"}"#),
    ("PL", r#"{"text":"mój numer to ‹p:601 234 567›"}"#),
    ("CH", r#"{"text":"meine Nummer: ‹p:079 123 45 67›"}"#),
    ("AT", r#"{"text":"Handy ‹p:0664/1234567› bitte"}"#),
    // Text right beside an address.
    ("IN", r#"{"msg":"‹e:asha@gmail.com›😊"}"#),
    ("IN", r#"{"msg":"“‹e:asha@gmail.com›”, …‹e:asha@gmail.com›…"}"#),
    ("IN", r#"{"msg":"‹e:asha@gmail.com›—Asha; है ‹e:asha@gmail.com›।"}"#),
    ("IN", r#"{"msg":"请联系‹e:asha@gmail.com›谢谢"}"#),
    ("IN", r#"{"msg":"‹e:asha@gmail.com›→‹e:ravi@yahoo.com›"}"#),
    ("IN", r#"{"t":"‹e:asha@gmail.com›\u2026"}"#),
    ("IN", r#"session ‹e:asha@gmail.com›-1790000000"#),
    ("IN", r#"{"client_id":"‹e:asha@gmail.com›-web"}"#),
    ("IN", r#"{"msg":"mail ‹e:kline (AT) gmail.com›😊, or ‹e:kline at gmail dot com›।"}"#),
    ("IN", r#"{"msg":"kafka@broker.us-east-1 and job@db.eu-prod are hosts"}"#),
    ("DE", r#"{"to":"‹e:jürgen.groß@müller-friseure.de›","cc":"‹e:o’brien@gmail.com›"}"#),
    // Addresses as users of URLs.
    ("IN", r"amqp://‹e:asha%40gmail.com›:pw@mq:5672"),
    ("IN", r"smtp://‹e:asha%40gmail.com›:pw@smtp.gmail.com:587 tried"),
    ("IN", r"imap://‹e:asha%40gmail.com›@mail.host/ tried, postgres://app:pw@db.cazo.de/crm"),
    // Numbers as names of people.
    ("IN", r#"{"username":"‹p:9876543210›","login":"‹p:919876543210›","by":"‹p:98765 43210›"}"#),
    ("IN", r#"{"customers":{"‹p:9876543210›":{"visits":3},"42":{"visits":1}}}"#),
    ("IN", r"'‹p:9876543210›' is not a valid phone"),
    ("IN", r#"{"user":"1763877600","customer":"5012345678","user_id":"9876543210"}"#),
    ("DE", r#"{"user":"1763877600","customer":"3012345678"}, customer 4711123456 not found"#),
    ("US", r#"{"customer":"4155552671"}, user 4155552671 logged in"#),
    // International numbers as parts of names.
    ("IN", r"POST /otp/‹p:+919876543210›/verify 200"),
    ("DE", r#"{"path":"/lookup/‹p:+14155552671›","session":"session-‹p:+919876543210›"}"#),
    ("IN", r#"{"key":"otp_‹p:+919876543210›","lock":"‹p:+919876543210›_1790000000"}"#),
    ("US", r#"{"file":"sms_‹p:+919876543210›.json","doc":"‹p:+919876543210›.pdf"}"#),
    ("IN", r"GET /otp/‹p:%2B919876543210›/verify lock ‹p:+919876543210›-1790000000"),
    ("IN", r"a_+1 b/+123456789012345 2026-11-23T10:15:30+05:30_x diff +1234567_"),
];

/// The line, and what is left of it, with placeholders.
fn read(marked: &str) -> (String, String) {
    let (mut line, mut expected) = (String::new(), String::new());
    let mut rest = marked;
    while let Some(start) = rest.find('‹') {
        let (before, marked) = rest.split_at(start);
        let inside = &marked['‹'.len_utf8()..];
        let end = inside.find('›').expect("each mark is closed");
        let (kind, value) = inside[..end].split_once(':').expect("each mark has a kind");
        line.push_str(before);
        line.push_str(value);
        expected.push_str(before);
        expected.push_str(if kind == "p" { "[phone]" } else { "[email]" });
        rest = &inside[end + '›'.len_utf8()..];
    }
    line.push_str(rest);
    expected.push_str(rest);
    (line, expected)
}

#[test]
fn what_is_marked_goes_and_nothing_else() {
    let mut subjects = Subjects::new("balanced");
    let mut wrong = Vec::new();
    for (region, marked) in LINES {
        let (line, expected) = read(marked);
        let redacted = subjects.of(region).redact(&line);
        if redacted != expected {
            wrong.push(format!("{region} {expected}\n   {redacted}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), LINES.len(), wrong.join("\n"));
}

#[test]
fn strict_takes_what_is_marked_too() {
    let mut subjects = Subjects::new("strict");
    for (region, marked) in LINES {
        let (line, expected) = read(marked);
        let redacted = subjects.of(region).redact(&line);
        for kind in ["[phone]", "[email]"] {
            let count = |text: &str| text.matches(kind).count();
            assert!(count(&redacted) >= count(&expected), "{region} {expected}\n   {redacted}");
        }
    }
}
