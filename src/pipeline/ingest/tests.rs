//! One table per logger, hostile input, and properties over arbitrary bytes.

use proptest::prelude::*;

use super::*;
use crate::pipeline::record::{Header, Timestamp, TopicPartition};

struct Case<'a> {
    name: &'a str,
    line: &'a str,
    format: Format,
    severity: Severity,
    millis: Option<i64>,
    fields: &'a [(FieldKind, &'a str)],
}

const AT: Option<i64> = Some(1_700_000_000_123);

fn source<'a>(at: &'a TopicPartition, value: &'a [u8]) -> SourceRecord<'a> {
    SourceRecord {
        topic_partition: at,
        offset: 7,
        timestamp: Timestamp::EPOCH,
        key: None,
        value: Some(value),
        headers: &[],
    }
}

fn with_record<R>(value: &[u8], check: impl FnOnce(LogRecord<'_>) -> R) -> R {
    let at = TopicPartition::new("app.logs", 0);
    let ingest = Ingest::new(IngestRules::default());
    check(ingest.parse(&source(&at, value)))
}

fn text_of_kind<'r>(record: &'r LogRecord<'_>, kind: FieldKind) -> Option<&'r str> {
    let field = match kind {
        FieldKind::Service => &record.service,
        FieldKind::Tenant => return record.tenant.as_ref().map(|tenant| tenant.id.as_str()),
        FieldKind::Event => &record.event,
        FieldKind::Action => &record.action,
        FieldKind::Actor => &record.actor,
        FieldKind::ActorType => &record.actor_type,
        FieldKind::Object => &record.object,
        FieldKind::Outcome => &record.outcome,
        FieldKind::Reason => &record.reason,
        FieldKind::Session => &record.session,
        other => panic!("no field for {other:?}"),
    };
    field.as_ref().map(Field::as_str)
}

fn check(cases: &[Case<'_>]) {
    for case in cases {
        with_record(case.line.as_bytes(), |record| {
            assert_eq!(record.format, case.format, "{}", case.name);
            assert_eq!(record.severity, case.severity, "{}", case.name);
            assert_eq!(record.event_time.map(Timestamp::millis), case.millis, "{}", case.name);
            for (kind, text) in case.fields {
                assert_eq!(text_of_kind(&record, *kind), Some(*text), "{} {kind:?}", case.name);
            }
        });
    }
}

#[test]
fn json_loggers_are_understood() {
    check(JSON_LOGGERS);
}

const JSON_LOGGERS: &[Case<'_>] = &[
    Case {
        name: "zap",
        line: r#"{"level":"error","ts":1700000000.123,"logger":"booking","caller":"a.go:1","msg":"boom","tenant_id":"t1"}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Service, "booking"), (FieldKind::Tenant, "t1")],
    },
    Case {
        name: "pino",
        line: r#"{"level":50,"time":1700000000123,"pid":1,"hostname":"h","name":"api","tenantId":42,"msg":"x"}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Service, "api"), (FieldKind::Tenant, "42")],
    },
    Case {
        name: "bunyan",
        line: r#"{"name":"api","hostname":"h","pid":1,"level":40,"msg":"x","time":"2023-11-14T22:13:20.123Z","v":0}"#,
        format: Format::Json,
        severity: Severity::Warn,
        millis: AT,
        fields: &[(FieldKind::Service, "api")],
    },
    Case {
        name: "serilog",
        line: r#"{"@t":"2023-11-14T22:13:20.1230000Z","@mt":"Hi {Name}","@l":"Warning","TenantId":"t9","Properties":{"SalonId":"s"}}"#,
        format: Format::Json,
        severity: Severity::Warn,
        millis: AT,
        fields: &[(FieldKind::Tenant, "t9")],
    },
    Case {
        name: "log4j JSON",
        line: r#"{"instant":{"epochSecond":1},"thread":"main","level":"FATAL","loggerName":"c","message":"m","contextMap":{"tenant":"t3"},"timestamp":"2023-11-14T22:13:20.123+00:00"}"#,
        format: Format::Json,
        severity: Severity::Fatal,
        millis: AT,
        fields: &[(FieldKind::Tenant, "t3")],
    },
    Case {
        name: "python-json-logger",
        line: r#"{"asctime": "2023-11-14 22:13:20,123", "levelname": "CRITICAL", "name": "bookings.api", "message": "x"}"#,
        format: Format::Json,
        severity: Severity::Fatal,
        millis: None,
        fields: &[(FieldKind::Service, "bookings.api")],
    },
    Case {
        name: "ECS, nested",
        line: r#"{"@timestamp":"2023-11-14T22:13:20.123Z","log":{"level":"warn"},"service":{"name":"pay"},"event":{"action":"refund","outcome":"success"},"organization":{"id":"o1"},"user":{"id":"u1"}}"#,
        format: Format::Json,
        severity: Severity::Warn,
        millis: AT,
        fields: &[
            (FieldKind::Service, "pay"),
            (FieldKind::Tenant, "o1"),
            (FieldKind::Action, "refund"),
            (FieldKind::Actor, "u1"),
        ],
    },
    Case {
        name: "ECS, dotted",
        line: r#"{"@timestamp":"2023-11-14T22:13:20.123Z","log.level":"warn","service.name":"pay","event.action":"refund","organization.id":"o1"}"#,
        format: Format::Json,
        severity: Severity::Warn,
        millis: AT,
        fields: &[
            (FieldKind::Service, "pay"),
            (FieldKind::Tenant, "o1"),
            (FieldKind::Action, "refund"),
        ],
    },
    Case {
        name: "tracing-subscriber",
        line: r#"{"timestamp":"2023-11-14T22:13:20.123456Z","level":"ERROR","fields":{"message":"x","tenant_id":"t4","level":"info"},"target":"a"}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Tenant, "t4")],
    },
    Case {
        name: "structlog",
        line: r#"{"event":"user logged in","level":"info","timestamp":"2023-11-14T22:13:20.123Z","session_id":"x"}"#,
        format: Format::Json,
        severity: Severity::Info,
        millis: AT,
        fields: &[(FieldKind::Session, "x")],
    },
    Case {
        name: "OTel otlp_json",
        line: r#"{"resourceLogs":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"booking"}},{"value":{"stringValue":"t5"},"key":"tenant.id"}]},"scopeLogs":[{"scope":{"name":"lib"},"logRecords":[{"timeUnixNano":"1700000000123000000","severityNumber":17,"severityText":"ERROR","body":{"stringValue":"boom"},"attributes":[{"key":"event.name","value":{"stringValue":"booking.failed"}},{"key":"session.id","value":{"stringValue":"c1"}}]}]}]}]}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[
            (FieldKind::Service, "booking"),
            (FieldKind::Tenant, "t5"),
            (FieldKind::Event, "booking.failed"),
            (FieldKind::Session, "c1"),
        ],
    },
    Case {
        name: "GCP",
        line: r#"{"severity":"DEFAULT","timestamp":"2023-11-14T22:13:20.123Z","jsonPayload":{"level":"error","tenant":"t6"}}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Tenant, "t6")],
    },
];

#[test]
fn wrapped_and_plain_lines_are_understood() {
    check(WRAPPED_AND_PLAIN);
}

const WRAPPED_AND_PLAIN: &[Case<'_>] = &[
    Case {
        name: "Docker json-file",
        line: r#"{"log":"{\"level\":\"error\",\"tenant\":\"t\\u0031\",\"time\":1700000000123}\n","stream":"stderr","time":"2020-01-01T00:00:00Z"}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Tenant, "t1")],
    },
    Case {
        name: "Docker, plain line inside",
        line: r#"{"log":"2023 [error] boom\n","stream":"stderr","time":"2023-11-14T22:13:20.123Z"}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[],
    },
    Case {
        name: "Fluent Bit",
        line: r#"{"@timestamp":1700000000.123,"log":"{\"level\":30,\"logger\":\"inner\"}","kubernetes":{"container_name":"booking","labels":{"app.kubernetes.io/name":"booking-api"}}}"#,
        format: Format::Json,
        severity: Severity::Info,
        millis: AT,
        fields: &[(FieldKind::Service, "booking-api")],
    },
    Case {
        name: "CRI",
        line: r#"2023-11-14T22:13:20.123000000Z stdout F {"level":"warn","tenant":"t2"}"#,
        format: Format::Json,
        severity: Severity::Warn,
        millis: AT,
        fields: &[(FieldKind::Tenant, "t2")],
    },
    Case {
        name: "logrus logfmt",
        line: r#"time="2023-11-14T22:13:20.123Z" level=warning msg="a=b \"c\"" tenant=t7 service.name=x event=bot.turn"#,
        format: Format::Logfmt,
        severity: Severity::Warn,
        millis: AT,
        fields: &[
            (FieldKind::Tenant, "t7"),
            (FieldKind::Service, "x"),
            (FieldKind::Event, "bot.turn"),
        ],
    },
    Case {
        name: "log4j pattern",
        line: "2023-11-14 22:13:20,123 [main] ERROR c.c.Booking - failed tenant_id=t8",
        format: Format::Text,
        severity: Severity::Error,
        millis: None,
        fields: &[(FieldKind::Tenant, "t8")],
    },
    Case {
        name: "nginx",
        line: "2023/11/14 22:13:20 [error] 123#0: *1 connect() failed",
        format: Format::Text,
        severity: Severity::Error,
        millis: None,
        fields: &[],
    },
    Case {
        name: "klog",
        line: "E1114 22:13:20.123456       1 main.go:12] boom",
        format: Format::Text,
        severity: Severity::Error,
        millis: None,
        fields: &[],
    },
    Case {
        name: "syslog RFC 5424",
        line: "<11>1 2023-11-14T22:13:20.123Z host booking 12 ID47 - boom",
        format: Format::Text,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Service, "booking")],
    },
    Case {
        name: "syslog RFC 3164",
        line: "<34>Oct 11 22:14:15 host sshd[4721]: Failed password",
        format: Format::Text,
        severity: Severity::Fatal,
        millis: None,
        fields: &[(FieldKind::Service, "sshd")],
    },
    Case {
        name: "Kafka broker",
        line: r#"[2023-11-14 22:13:20,123] ERROR [KafkaServer id=0] Fatal error tenant_id=t1"#,
        format: Format::Text,
        severity: Severity::Error,
        millis: None,
        fields: &[(FieldKind::Tenant, "t1")],
    },
    Case {
        name: "time in brackets",
        line: r#"[2023-11-14T22:13:20.123Z] ERROR boom tenant_id=t1"#,
        format: Format::Text,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Tenant, "t1")],
    },
    Case {
        name: "process id in brackets",
        line: r#"[1234] ERROR boom tenant_id=t1"#,
        format: Format::Text,
        severity: Severity::Error,
        millis: None,
        fields: &[(FieldKind::Tenant, "t1")],
    },
    Case {
        name: "clock time in brackets",
        line: r#"[09:41:07.123] WARN slow"#,
        format: Format::Text,
        severity: Severity::Warn,
        millis: None,
        fields: &[],
    },
    Case {
        name: "empty brackets",
        line: r#"[] ERROR boom"#,
        format: Format::Text,
        severity: Severity::Error,
        millis: None,
        fields: &[],
    },
    Case {
        name: "kernel",
        line: r#"[    1.234567] usb 1-1: new device tenant_id=t1"#,
        format: Format::Text,
        severity: Severity::Unknown,
        millis: None,
        fields: &[(FieldKind::Tenant, "t1")],
    },
    Case {
        name: "braces in front",
        line: r#"{} ERROR boom"#,
        format: Format::Text,
        severity: Severity::Error,
        millis: None,
        fields: &[],
    },
    Case {
        name: "a record and more",
        line: r#"{"tenant":"t1"} ERROR boom"#,
        format: Format::Text,
        severity: Severity::Error,
        millis: None,
        fields: &[(FieldKind::Tenant, "t1")],
    },
    Case {
        name: "logrus in Docker",
        line: r#"{"log":"time=\"2023-11-14T22:13:21Z\" level=error msg=\"boom\" tenant=t1\n","stream":"stderr","time":"2023-11-14T22:13:20.123Z"}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Tenant, "t1")],
    },
    Case {
        name: "syslog in Fluent Bit",
        line: r#"{"log":"<11>1 2023-11-14T22:13:20.123Z host booking 12 ID47 - boom","kubernetes":{"pod_name":"p"}}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: AT,
        fields: &[(FieldKind::Service, "booking")],
    },
    Case {
        name: "piece of JSON in Docker",
        line: r#"{"log":"{\"level\":\"error\",\"tenant\":\"t1\",\"stack\":\"a","stream":"stderr","partial_message":"true"}"#,
        format: Format::Json,
        severity: Severity::Error,
        millis: None,
        fields: &[(FieldKind::Tenant, "t1")],
    },
    Case {
        name: "prose",
        line: "the customer said error and left",
        format: Format::Text,
        severity: Severity::Unknown,
        millis: None,
        fields: &[],
    },
];

#[test]
fn levels_of_plain_lines_are_found() {
    for (line, severity) in [
        ("ERROR:root:boom", Severity::Error),
        ("\u{1b}[31mERROR\u{1b}[0m boom", Severity::Error),
        (
            "\u{1b}[2m2023-11-14T22:13:20Z\u{1b}[0m \u{1b}[33m WARN\u{1b}[0m api: slow",
            Severity::Warn,
        ),
        ("\u{1b}[90m10:04AM\u{1b}[0m \u{1b}[32mINF\u{1b}[0m up", Severity::Info),
        ("fail: Microsoft.AspNetCore.Server.Kestrel[13]", Severity::Error),
        ("dbug: Microsoft.Hosting.Lifetime[0]", Severity::Debug),
        ("trce: x[0]", Severity::Trace),
        (
            "[Tue Nov 14 22:13:20.123456 2023] [core:error] [pid 7] AH00126: Invalid URI",
            Severity::Error,
        ),
        ("[2023-11-14 22:13:20] production.ERROR: boom {}", Severity::Error),
        ("2023-11-14 22:13:20.123 UTC [7] FATAL:  out of memory", Severity::Fatal),
        ("\u{1b}[31", Severity::Unknown),
        ("all tests fail: see above", Severity::Unknown),
        ("http://host/error: gone", Severity::Unknown),
    ] {
        with_record(line.as_bytes(), |record| assert_eq!(record.severity, severity, "{line:?}"));
    }
}

#[test]
fn levels_in_messages_are_told_from_words() {
    for (line, severity) in [
        (r#"{"level":"\u001b[31merror\u001b[39m","message":"x"}"#, Severity::Error),
        (r#"{"message":"\u001b[31mERROR\u001b[0m boom"}"#, Severity::Error),
        (r#"{"message":"[error] boom"}"#, Severity::Error),
        (r#"{"version":"1.1","host":"h","short_message":"boom","level":3}"#, Severity::Error),
        (r#"{"level":4,"short_message":"[error] boom"}"#, Severity::Warn),
        (r#"{"level":3,"message":"boom"}"#, Severity::Unknown),
        (r#"{"PRIORITY":"3","MESSAGE":"boom"}"#, Severity::Unknown),
        (r#"{"message":"ERROR: boom","tenant":"t"}"#, Severity::Error),
        (r#"{"message":"2023-11-14 22:13:20,123 [main] ERROR c.c.Booking - x"}"#, Severity::Error),
        (r#"{"message":"I GET ERROR WHEN I PAY"}"#, Severity::Unknown),
        (r#"{"message":"Alert: your booking is confirmed"}"#, Severity::Unknown),
        (r#"{"message":"NOTICE we are closed"}"#, Severity::Unknown),
        (r#"{"event":"user","sender_id":"c1","text":"ERROR I GET"}"#, Severity::Unknown),
        (r#"{"event":"bot.turn","message":"FATAL ERROR please help"}"#, Severity::Unknown),
        (r#"{"session_id":"c","message":"[error] what is this"}"#, Severity::Unknown),
        (r#"{"text":"FATAL: help"}"#, Severity::Unknown),
    ] {
        with_record(line.as_bytes(), |record| assert_eq!(record.severity, severity, "{line}"));
    }
}

#[test]
fn nothing_is_guessed() {
    for line in [
        r#"{"level":3}"#,
        r#"{"status":500}"#,
        r#"{"status":"cancelled"}"#,
        r#"{"data":{"level":"error"}}"#,
        r#"{"booking":{"severity":"error"}}"#,
        r#"{"levels":["error"]}"#,
        "GET /login?level=error",
    ] {
        with_record(line.as_bytes(), |record| {
            assert_eq!(record.severity, Severity::Unknown, "{line}");
        });
    }
    let line = br#"{"account_id":"a","customer":{"account":"c"},"customer_id":"d","account":"e"}"#;
    with_record(line, |record| assert_eq!(record.tenant, None));
}

#[test]
fn the_tables_order_decides_and_not_the_records() {
    let line = br#"{"salon_id":"s","level":3,"severityText":"WARN","level":"debug","tenant":"t","attributes":{"logger":"x","service.name":"y"}}"#;
    with_record(line, |record| {
        assert_eq!(record.severity, Severity::Warn);
        assert_eq!(text_of_kind(&record, FieldKind::Tenant), Some("t"));
        assert_eq!(text_of_kind(&record, FieldKind::Service), Some("y"));
    });
    with_record(br#"{"tenant":"first","tenant":"second"}"#, |record| {
        assert_eq!(text_of_kind(&record, FieldKind::Tenant), Some("first"));
    });
}

type Attributes<'a> = &'a [(&'a str, &'a str)];

/// An OTLP batch of resources, each with attributes and log records with attributes.
fn otlp(resources: &[(Attributes<'_>, &[Attributes<'_>])]) -> String {
    let attributes = |pairs: Attributes<'_>| {
        let pairs = pairs.iter().map(|(key, value)| {
            format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
        });
        format!(r#"{{"attributes":[{}]}}"#, pairs.collect::<Vec<_>>().join(","))
    };
    let resources = resources.iter().map(|(resource, logs)| {
        let logs: Vec<String> = logs.iter().map(|log| attributes(log)).collect();
        format!(
            r#"{{"resource":{},"scopeLogs":[{{"logRecords":[{}]}}]}}"#,
            attributes(resource),
            logs.join(",")
        )
    });
    format!(r#"{{"resourceLogs":[{}]}}"#, resources.collect::<Vec<_>>().join(","))
}

fn tenants_of_batch<'r>(record: &'r LogRecord<'_>) -> Vec<(Option<&'r str>, u32)> {
    let of = |logs: &'r ResourceLogs<'_>| {
        let tenant = logs.tenant.as_ref().map(|tenant| tenant.id.as_str());
        (tenant, logs.severities.iter().sum())
    };
    record.batch.iter().map(of).collect()
}

#[test]
fn a_batch_of_several_tenants_is_nobodys_record() {
    let deed =
        [("staff_id", "st"), ("action", "refund"), ("session.id", "c"), ("bot.handover", "1")];
    let of_globex = [("tenant.id", "globex"), deed[0], deed[1], deed[2], deed[3]];
    let by_resource = otlp(&[
        (&[("tenant.id", "acme"), ("service.name", "api")], &[&[("session.id", "c")], &[]]),
        (&[("tenant.id", "globex"), ("service.name", "api")], &[&deed]),
    ]);
    let by_log = otlp(&[(
        &[("service.name", "api")],
        &[&[("tenant.id", "acme")], &[("tenant.id", "acme")], &of_globex],
    )]);
    for line in [by_resource, by_log] {
        with_record(line.as_bytes(), |record| {
            assert_eq!(
                tenants_of_batch(&record),
                [(Some("acme"), 2), (Some("globex"), 1)],
                "{line}"
            );
            let LogRecord { tenant, actor, action, session, bot, staff_action, .. } = record;
            assert_eq!((tenant, actor, action, session), (None, None, None, None), "{line}");
            assert_eq!((bot, staff_action), (None, None), "{line}");
        });
    }
    // A log record without a tenant may be anybody's.
    let line = otlp(&[(&[], &[&[("tenant.id", "acme")], &deed])]);
    with_record(line.as_bytes(), |record| {
        assert_eq!(tenants_of_batch(&record), [(Some("acme"), 1), (None, 1)]);
        assert_eq!((record.tenant, record.staff_action), (None, None));
    });
}

#[test]
fn a_batch_of_one_tenant_has_the_first_log_records_fields() {
    let acme = ("tenant.id", "acme");
    let line = otlp(&[(
        &[acme],
        &[&[("staff_id", "st"), ("tenant.id", "typed")], &[("action", "refund")]],
    )]);
    with_record(line.as_bytes(), |record| {
        assert_eq!(tenants_of_batch(&record), [(Some("acme"), 2)]);
        assert_eq!(text_of_kind(&record, FieldKind::Tenant), Some("acme"));
        assert_eq!(text_of_kind(&record, FieldKind::Actor), Some("st"));
        assert_eq!((record.action, record.staff_action), (None, None));
    });
    let at = TopicPartition::new("app.logs", 0);
    let ingest = Ingest::new(IngestRules::default());
    let explanation = ingest.explain(&source(&at, line.as_bytes()));
    let path = |kind| explanation.finding(kind).unwrap().path.clone().unwrap();
    assert_eq!(path(FieldKind::Tenant), "resourceLogs.resource.attributes.tenant.id.stringValue");
    assert_eq!(
        path(FieldKind::Actor),
        "resourceLogs.scopeLogs.logRecords.attributes.staff_id.stringValue"
    );
}

#[test]
fn what_a_user_typed_is_no_record() {
    let typed = r#"{\"tenant_id\":\"other\",\"staff_id\":\"st\",\"staff_action\":\"cancel\",\"level\":\"fatal\",\"event\":\"bot.handover\",\"session_id\":\"d\"}"#;
    for head in [
        r#""level":"info","event":"bot.turn","role":"user","tenant_id":"own","session_id":"c""#,
        r#""level":"info","tenant_id":"own""#,
        r#""event":"user","sender_id":"c""#,
        r#""event":"bot.turn""#,
        r#""stream":true,"tenant_id":"own""#,
    ] {
        for name in ["text", "message", "msg", "log"] {
            let line = format!(r#"{{{head},"{name}":"{typed}"}}"#);
            with_record(line.as_bytes(), |record| {
                let tenant = text_of_kind(&record, FieldKind::Tenant);
                assert_ne!(tenant, Some("other"), "{line}");
                assert_eq!(tenant.is_some(), head.contains("tenant"), "{line}");
                assert_ne!(record.severity, Severity::Fatal, "{line}");
                assert_eq!((record.actor, record.staff_action), (None, None), "{line}");
                assert_eq!(record.bot.and_then(|bot| bot.handover), None, "{line}");
                assert_ne!(record.session.map(|session| session.text).as_deref(), Some("d"));
            });
        }
    }
}

#[test]
fn a_shippers_message_adds_what_the_shipper_does_not_know() {
    let line = br#"{"@timestamp":"2023-11-14T22:13:20.123Z","severity":"info","message":"{\"level\":\"error\",\"time\":1,\"tenant\":\"t\",\"service\":\"api\"}"}"#;
    with_record(line, |record| {
        assert_eq!(record.severity, Severity::Info);
        assert_eq!(record.event_time.map(Timestamp::millis), AT);
        assert_eq!(text_of_kind(&record, FieldKind::Tenant), Some("t"));
        assert_eq!(text_of_kind(&record, FieldKind::Service), Some("api"));
    });
}

#[test]
fn what_a_caller_sent_speaks_for_nobody_else() {
    for container in ["params", "data", "payload", "details", "body", "attributes"] {
        let line = format!(
            r#"{{"{container}":{{"tenant_id":"other","actor_id":"b","staff_action":"refund","conversation_id":"d","event_name":"bot.handover"}},"tenant":"own","user_id":"a","action":"view","session_id":"c","type":"request"}}"#
        );
        with_record(line.as_bytes(), |record| {
            for (kind, text) in [
                (FieldKind::Tenant, "own"),
                (FieldKind::Actor, "a"),
                (FieldKind::Action, "view"),
                (FieldKind::Session, "c"),
                (FieldKind::Event, "request"),
            ] {
                assert_eq!(text_of_kind(&record, kind), Some(text), "{container} {kind:?}");
            }
        });
    }
    let line = br#"{"msg":"request","params":{"tenant_id":"t","staff_id":"st","action":"cancel"}}"#;
    with_record(line, |record| assert_eq!((record.tenant, record.staff_action), (None, None)));
}

#[test]
fn bots_are_understood() {
    let started = BotFact { session_started: true, ..BotFact::default() };
    let fallback = BotFact { fallback: true, ..BotFact::default() };
    let handover = |reason| BotFact { handover: Some(reason), ..BotFact::default() };
    let turn = |turn| BotFact { turn: Some(turn), ..BotFact::default() };
    let cases = [
        (r#"{"sender_id":"c","timestamp":1700000000.1,"event":"session_started"}"#, Some(started)),
        (r#"{"sender_id":"c","event":"bot","text":"hello"}"#, Some(turn(Turn::Bot))),
        (r#"{"sender_id":"c","event":"action","name":"action_default_fallback"}"#, Some(fallback)),
        (
            r#"{"sender_id":"c","event":"user","parse_data":{"intent":{"name":"handoff_to_support"}}}"#,
            Some(BotFact {
                turn: Some(Turn::User),
                handover: Some(HandoverReason::Other),
                ..BotFact::default()
            }),
        ),
        (r#"{"event":"bot.session_started","session_id":"c"}"#, Some(started)),
        (r#"{"event":"bot.session.started","session_id":"c"}"#, Some(started)),
        (r#"{"event":"bot.turn","role":"user"}"#, Some(turn(Turn::User))),
        (
            r#"{"event":"bot.handover","reason":"customer asked for a human"}"#,
            Some(handover(HandoverReason::UserRequest)),
        ),
        (
            r#"{"event_name":"bot_handoff","session_id":"c","handoff_reason":"low_confidence"}"#,
            Some(handover(HandoverReason::LowConfidence)),
        ),
        (r#"{"event":"handover","conversation_id":"c"}"#, Some(handover(HandoverReason::Other))),
        (r#"{"event":"bot.fallback"}"#, Some(fallback)),
        (r#"{"session_id":"c","intent":"AMAZON.FallbackIntent"}"#, Some(fallback)),
        (r#"{"session_id":"c","fallback":false,"handover":false}"#, None),
        (r#"{"event":"shift.handover"}"#, None),
        (r#"{"event":"handover"}"#, None),
        (r#"{"event":"session_started","session_id":"web"}"#, None),
        (r#"{"event":"booking.created"}"#, None),
    ];
    for (line, fact) in cases {
        with_record(line.as_bytes(), |record| assert_eq!(record.bot, fact, "{line}"));
    }
}

#[test]
fn staff_actions_are_told_from_customers_and_machines() {
    let cases = [
        (r#"{"action":"booking.cancel","staff_id":"st-4"}"#, Some(StaffAction::Explicit)),
        (r#"{"action":"booking.cancel","user_id":"u"}"#, Some(StaffAction::Inferred)),
        (
            r#"{"action":"booking.cancel","actor":{"id":"u","type":"staff"}}"#,
            Some(StaffAction::Explicit),
        ),
        (r#"{"event":"staff.action","actor":"u"}"#, Some(StaffAction::Explicit)),
        (r#"{"action":"booking.create","actor":{"id":"u","type":"customer"}}"#, None),
        (r#"{"action":"click"}"#, None),
        (r#"{"user_id":"u"}"#, None),
    ];
    for (line, fact) in cases {
        with_record(line.as_bytes(), |record| assert_eq!(record.staff_action, fact, "{line}"));
    }
}

#[test]
fn a_persons_name_is_no_service() {
    for (line, service) in [
        (r#"{"name":"Asha Kumar","phone":"x"}"#, None),
        (r#"{"name":"Asha Kumar","component":"api"}"#, Some("api")),
        (r#"{"name":"bookings.api"}"#, Some("bookings.api")),
        (r#"{"service":"Booking API"}"#, Some("Booking API")),
    ] {
        with_record(line.as_bytes(), |record| {
            assert_eq!(text_of_kind(&record, FieldKind::Service), service, "{line}");
        });
    }
}

#[test]
fn journald_is_understood_where_the_settings_name_its_priority() {
    let raw = r#"{"fields":{"severity":["PRIORITY","+defaults"]}}"#;
    let raw: RawIngestRules = serde_json::from_str(raw).unwrap();
    let ingest = Ingest::new(IngestRules::new(&raw).unwrap());
    let at = TopicPartition::new("app.logs", 0);
    let line = br#"{"PRIORITY":"3","MESSAGE":"boom"}"#;
    assert_eq!(ingest.parse(&source(&at, line)).severity, Severity::Error);
}

#[test]
fn an_actor_that_the_settings_name_is_staff() {
    let raw = r#"{"fields":{"actor":["user.id","+defaults"]}}"#;
    let raw: RawIngestRules = serde_json::from_str(raw).unwrap();
    let ingest = Ingest::new(IngestRules::new(&raw).unwrap());
    let at = TopicPartition::new("app.logs", 0);
    for (line, fact) in [
        (r#"{"event":{"action":"x"},"user":{"id":"u"}}"#, Some(StaffAction::Explicit)),
        (r#"{"event":{"action":"x"},"user.id":"u","actor_type":"customer"}"#, None),
        (r#"{"action":"x","username":"u"}"#, Some(StaffAction::Inferred)),
    ] {
        assert_eq!(ingest.parse(&source(&at, line.as_bytes())).staff_action, fact, "{line}");
    }
}

#[test]
fn figures_carry_their_unit() {
    let cases = [
        (r#"{"latency_ms":12.5}"#, Some(12.5)),
        (r#"{"duration_seconds":0.25}"#, Some(250.0)),
        (r#"{"event":{"duration":5000000}}"#, Some(5.0)),
        (r#"{"duration":"1.5s"}"#, Some(1500.0)),
        (r#"{"duration":"250µs"}"#, Some(0.25)),
        (r#"{"responseTime":7}"#, Some(7.0)),
        (r#"{"duration":30}"#, None),
        (r#"{"latency_ms":-1}"#, None),
        (r#"{"latency_ms":1e999}"#, None),
        (r#"{"latency_ms":"NaN"}"#, None),
    ];
    for (line, millis) in cases {
        with_record(line.as_bytes(), |record| assert_eq!(record.latency_ms, millis, "{line}"));
    }
    let line = br#"{"rating":2,"gen_ai":{"usage":{"input_tokens":10,"output_tokens":5}},"booking":{"value":"49.5"}}"#;
    with_record(line, |record| {
        assert_eq!(record.rating, Some(2.0));
        assert_eq!(record.tokens, Some(Tokens { input: 10, output: 5, total: 15 }));
        assert_eq!(record.booking_value, Some(49.5));
    });
}

#[test]
fn split_lines_are_marked() {
    let long = format!(r#"{{"log":"{}","stream":"stdout","time":"x"}}"#, "a".repeat(16 * 1024));
    let whole = format!(r#"{{"log":"{}\n","stream":"stdout","time":"x"}}"#, "a".repeat(16 * 1024));
    let piece = |cut_at_start, cut_at_end| SplitLine { cut_at_start, cut_at_end };
    let cases = [
        ("2023-11-14T22:13:20.123000000Z stdout P abc", piece(false, true)),
        ("2023-11-14T22:13:20.123000000Z stdout F abc", piece(false, false)),
        (r#"{"log":"abc","stream":"stdout","logtag":"P"}"#, piece(false, true)),
        (r#"{"log":"abc","_p":"F"}"#, piece(false, false)),
        (
            r#"{"log":"a","partial_message":"true","partial_id":"x","partial_ordinal":"1","partial_last":"false"}"#,
            piece(false, true),
        ),
        (
            r#"{"log":"a","partial_message":"true","partial_ordinal":"2","partial_last":"true"}"#,
            piece(true, false),
        ),
        (r#"{"log":"a","partial_message":true}"#, piece(true, true)),
        (r#"{"log":"abc","stream":"stdout","time":"x"}"#, piece(false, false)),
        (&long, piece(false, true)),
        (&whole, piece(false, false)),
    ];
    for (line, partial) in cases {
        with_record(line.as_bytes(), |record| assert_eq!(record.partial, partial, "{line:.60}"));
    }
}

#[test]
fn tenants_come_from_where_the_rules_say() {
    let raw = |json: &str| serde_json::from_str::<RawIngestRules>(json).unwrap();
    let at = TopicPartition::new("logs.acme.app", 0);
    let headers = [Header { name: "X-Scope-OrgID", value: Some(b"h1") }];
    let record =
        SourceRecord { key: Some(b"k1"), headers: &headers, ..source(&at, br#"{"tenant":"f1"}"#) };
    let cases = [
        (r#"{}"#, Some(("f1", Assurance::Claimed))),
        (
            r#"{"tenant":{"from":["header","field"],"header":"x-scope-orgid"}}"#,
            Some(("h1", Assurance::Claimed)),
        ),
        (
            r#"{"tenant":{"from":["header"],"header":"X-Scope-OrgID","header_trusted":true}}"#,
            Some(("h1", Assurance::Verified)),
        ),
        (
            r#"{"tenant":{"from":["header","field"],"header":"absent"}}"#,
            Some(("f1", Assurance::Claimed)),
        ),
        (r#"{"tenant":{"from":["key"]}}"#, Some(("k1", Assurance::Claimed))),
        (
            r#"{"tenant":{"from":["topic"],"topic":"logs.{tenant}.app"}}"#,
            Some(("acme", Assurance::Verified)),
        ),
        (
            r#"{"tenant":{"from":["constant"],"constant":"one"}}"#,
            Some(("one", Assurance::Verified)),
        ),
        (r#"{"tenant":{"from":[]}}"#, None),
        (r#"{"topics":{"logs.*":{"tenant":{"from":["key"]}}}}"#, Some(("k1", Assurance::Claimed))),
        (
            r#"{"topics":{"logs.*":{"tenant":{"from":["key"]}},"logs.acme.app":{"tenant":{"from":[]}}}}"#,
            None,
        ),
        (r#"{"topics":{"other":{"tenant":{"from":["key"]}}}}"#, Some(("f1", Assurance::Claimed))),
    ];
    for (rules, expected) in cases {
        let ingest = Ingest::new(IngestRules::new(&raw(rules)).unwrap());
        let found = ingest.parse(&record).tenant;
        let found = found.as_ref().map(|tenant| (tenant.id.as_str(), tenant.assurance));
        assert_eq!(found, expected, "{rules}");
    }
}

#[test]
fn times_without_a_zone_are_those_of_the_topics_zone() {
    let raw = r#"{"time_zone":"Asia/Kolkata","topics":{"app.logs":{"time_zone":"UTC"}}}"#;
    let raw: RawIngestRules = serde_json::from_str(raw).unwrap();
    let ingest = Ingest::new(IngestRules::new(&raw).unwrap());
    let (own, other) = (TopicPartition::new("app.logs", 0), TopicPartition::new("other", 0));
    for line in [
        "2023-11-14 22:13:20,123 [main] ERROR boom",
        "[2023-11-14 22:13:20,123] ERROR boom",
        r#"{"asctime":"2023-11-14 22:13:20,123"}"#,
        r#"time="2023-11-14 22:13:20.123" level=error"#,
    ] {
        let millis = |at| ingest.parse(&source(at, line.as_bytes())).event_time.unwrap().millis();
        assert_eq!(millis(&own), 1_700_000_000_123, "{line}");
        assert_eq!(millis(&other), 1_700_000_000_123 - 19_800_000, "{line}");
        // The zone unknown, the record's Kafka timestamp stands in for it.
        with_record(line.as_bytes(), |record| assert_eq!(record.event_time, None, "{line}"));
    }
    let line = br#"{"asctime":"2023-11-14 03:00:00,000","datetime":"2023-11-14T22:13:20.123Z"}"#;
    with_record(line, |record| assert_eq!(record.event_time.map(Timestamp::millis), AT));
}

#[test]
fn a_field_that_is_off_is_off_in_text_too() {
    let raw = r#"{"fields":{"severity":[],"event_time":[],"service":[]}}"#;
    let raw: RawIngestRules = serde_json::from_str(raw).unwrap();
    let ingest = Ingest::new(IngestRules::new(&raw).unwrap());
    let at = TopicPartition::new("app.logs", 0);
    for line in [
        "2023-11-14 22:13:20Z ERROR boom",
        "<11>1 2023-11-14T22:13:20.123Z host booking 12 ID47 - boom",
        "2023-11-14T22:13:20.123000000Z stderr F [error] boom",
        r#"{"message":"[error] boom"}"#,
        r#"{"log":"2023-11-14 22:13:20Z [error] boom","stream":"stderr"}"#,
    ] {
        let found = ingest.parse(&source(&at, line.as_bytes()));
        assert_eq!(found.severity, Severity::Unknown, "{line}");
        assert_eq!((found.event_time, found.service), (None, None), "{line}");
    }
    let line = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"severityNumber":17}]}]}]}"#;
    let found = ingest.parse(&source(&at, line.as_bytes()));
    assert_eq!(found.batch[0].severities[Severity::Error as usize], 0);
}

#[test]
fn names_can_be_added_and_replaced_per_topic() {
    let raw = r#"{"fields":{"severity":["my.path","+defaults"],"service":[]},
        "topics":{"app.logs":{"fields":{"tenant":["shop","+defaults"],"severity":["only"]}}}}"#;
    let raw: RawIngestRules = serde_json::from_str(raw).unwrap();
    let ingest = Ingest::new(IngestRules::new(&raw).unwrap());
    let value =
        br#"{"level":"info","my":{"path":"error"},"only":"debug","shop":"s","service":"x"}"#;
    let (own, other) = (TopicPartition::new("app.logs", 0), TopicPartition::new("other", 0));
    let found = ingest.parse(&source(&own, value));
    assert_eq!(found.severity, Severity::Debug);
    assert_eq!(text_of_kind(&found, FieldKind::Tenant), Some("s"));
    let found = ingest.parse(&source(&other, value));
    assert_eq!(found.severity, Severity::Error);
    assert_eq!(found.service, None);
    assert_eq!(found.tenant, None);
}

#[test]
fn bad_rules_are_refused_with_their_key_path() {
    let cases = [
        (r#"{"fields":{"severity":["a..b"]}}"#, "fields.severity[0]: a key path needs"),
        (r#"{"fields":{"tenant":["x","+mine"]}}"#, "fields.tenant[1]: `+mine` is no list"),
        (r#"{"tenant":{"from":["header"]}}"#, "tenant.from[0]: source `header` needs `header`"),
        (r#"{"tenant":{"from":["topic"],"topic":"logs"}}"#, "tenant.topic: needs `{tenant}`"),
        (r#"{"tenant":{"from":["constant"],"constant":""}}"#, "tenant.constant: a tenant id"),
        (r#"{"time_zone":"Mars/Utopia"}"#, "time_zone: `Mars/Utopia` is no time zone"),
        (r#"{"topics":{"a*":{"time_zone":""}}}"#, r#"topics."a*".time_zone: `` is no time zone"#),
        (r#"{"topics":{"a*":{"fields":{"actor":[""]}}}}"#, r#"topics."a*".fields.actor[0]: "#),
    ];
    for (raw, message) in cases {
        let raw = serde_json::from_str::<RawIngestRules>(raw).unwrap();
        let error = IngestRules::new(&raw).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert!(serde_json::from_str::<RawIngestRules>(r#"{"field":{}}"#).is_err());
}

#[test]
fn the_longest_names_are_compiled_and_longer_ones_refused() {
    let long = |number| format!("a_{number:02}{}", ".b".repeat(120));
    let rules = |per_kind| {
        let names: Vec<String> = (0..per_kind).map(long).collect();
        let raw = serde_json::json!({"fields": {"actor": names, "action": names}});
        IngestRules::new(&serde_json::from_value(raw).unwrap())
    };
    assert!(rules(80).is_ok());
    let error = rules(90).unwrap_err().to_string();
    assert!(error.ends_with("together have at most 20000 dotted parts"), "{error}");
}

#[test]
fn explain_names_paths_and_rules_but_no_values() {
    let at = TopicPartition::new("app.logs", 0);
    let ingest = Ingest::new(IngestRules::default());
    let line = br#"{"log":"{\"Level\":\"error\",\"Service\":{\"name\":\"asha@example.com\"}}\n","stream":"stdout","salonId":"s"}"#;
    let explanation = ingest.explain(&source(&at, line));
    let severity = explanation.finding(FieldKind::Severity).unwrap();
    assert_eq!(severity.path.as_deref(), Some("log.Level"));
    assert_eq!(severity.rule, Rule::Name("level"));
    let service = explanation.finding(FieldKind::Service).unwrap();
    assert_eq!(service.path.as_deref(), Some("log.Service.name"));
    assert_eq!(service.rule, Rule::Name("service.name"));
    assert_eq!(service.value.reveal(), "asha@example.com");
    let tenant = explanation.finding(FieldKind::Tenant).unwrap();
    assert_eq!((tenant.path.as_deref(), tenant.rule), (Some("salonId"), Rule::Name("salon_id")));
    assert!(!format!("{explanation:?}").contains("asha"));
    assert!(!format!("{:?}", ingest.parse(&source(&at, line))).contains("asha"));
}

#[test]
fn hostile_input_is_read_like_any_other() {
    let deep = "[".repeat(100_000);
    let deep_objects = r#"{"log":"#.repeat(100_000);
    let deep_pairs = r#"[{"value":"#.repeat(50_000);
    let closed =
        format!(r#"{{"x":{}{},"level":"error"}}"#, "[".repeat(100_000), "]".repeat(100_000));
    for line in [&deep, &deep_objects, &deep_pairs] {
        with_record(line.as_bytes(), |record| assert_eq!(record.format, Format::Text));
    }
    with_record(closed.as_bytes(), |record| {
        assert_eq!((record.format, record.severity), (Format::Json, Severity::Error));
    });
    let cases: [(&[u8], Format, Severity); 14] = [
        (b"", Format::Empty, Severity::Unknown),
        (b" ", Format::Text, Severity::Unknown),
        (b"{}", Format::Json, Severity::Unknown),
        (b" [ {\"level\":\"error\"}, {} ]\r\n", Format::Json, Severity::Error),
        (b"[]", Format::Text, Severity::Unknown),
        (b"[[{\"level\":\"error\"}]]", Format::Text, Severity::Unknown),
        (b"{\"level\":\"error\",\"m\":\"\xff\"}", Format::Undecodable, Severity::Error),
        (b"\xff\xfe", Format::Undecodable, Severity::Unknown),
        (b"\xef\xbb\xbf{\"level\":\"error\"}", Format::Json, Severity::Error),
        (br#"{"level":"error","msg":"cut of"#, Format::Text, Severity::Error),
        (br#"{"\u006cevel":"\u0065rror"}"#, Format::Json, Severity::Error),
        (
            br#"{"level":99999999999999999999999999999999999999999}"#,
            Format::Json,
            Severity::Unknown,
        ),
        (br#"{"level":"#, Format::Text, Severity::Unknown),
        (b"\"", Format::Text, Severity::Unknown),
    ];
    for (value, format, severity) in cases {
        with_record(value, |record| {
            assert_eq!((record.format, record.severity), (format, severity), "{value:?}");
        });
    }
    with_record(br#"{"tenant":"\ud800x\ud83d\ude00\u00e9\q"}"#, |record| {
        assert_eq!(text_of_kind(&record, FieldKind::Tenant), Some("\u{fffd}x\u{1f600}é\u{fffd}"));
    });
    let long = format!(r#"{{"tenant":"{}","salon_id":"s"}}"#, "x".repeat(2_000));
    with_record(long.as_bytes(), |record| {
        assert_eq!(text_of_kind(&record, FieldKind::Tenant), Some("s"));
    });
}

#[test]
fn a_tombstone_is_empty() {
    let at = TopicPartition::new("app.logs", 0);
    let ingest = Ingest::new(IngestRules::default());
    let record = SourceRecord { value: None, ..source(&at, b"") };
    assert_eq!(ingest.parse(&record).format, Format::Empty);
}

/// Cost is counted in nothing but time here, so the bound is loose: hostile input of one size may
/// cost at most a constant times what it costs per byte at a tenth of the size.
#[test]
#[expect(clippy::disallowed_methods, reason = "measures how cost grows")]
fn cost_grows_linearly() {
    let shapes: [fn(usize) -> String; 5] = [
        |n| "[".repeat(n),
        |n| r#"[{"value":"#.repeat(n / 10),
        |n| format!("{{{}}}", r#""level":3,"#.repeat(n / 10)),
        |n| "a=".repeat(n / 2),
        |n| r#"{"log":"\\u"#.repeat(n / 10),
    ];
    for (index, shape) in shapes.iter().enumerate() {
        let cost = |size: usize| {
            let line = shape(size);
            (0..5)
                .map(|_| {
                    let start = std::time::Instant::now();
                    with_record(line.as_bytes(), |_| ());
                    start.elapsed()
                })
                .min()
                .unwrap()
        };
        let (small, large) = (cost(50_000), cost(500_000));
        assert!(
            large < small * 60 + std::time::Duration::from_millis(20),
            "{index}: {small:?} {large:?}"
        );
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(value in proptest::collection::vec(any::<u8>(), 0..300)) {
        with_record(&value, |record| drop(format!("{record:?}")));
    }

    #[test]
    fn arbitrary_text_near_json_never_panics(
        parts in proptest::collection::vec(prop_oneof![
            Just("{".to_owned()), Just("}".to_owned()), Just("[".to_owned()), Just("]".to_owned()),
            Just("\"".to_owned()), Just("\\".to_owned()), Just(":".to_owned()), Just(",".to_owned()),
            Just("\"key\":".to_owned()), Just("\"value\":".to_owned()), Just("\"log\":\"{".to_owned()),
            Just("\"level\"".to_owned()), Just("\"attributes\":[".to_owned()), Just("<34>".to_owned()),
            Just("\\u".to_owned()), Just("d800".to_owned()), Just(" F ".to_owned()), Just("=".to_owned()),
            "[ -~é]{0,6}",
        ], 0..40)
    ) {
        with_record(parts.concat().as_bytes(), |record| drop(format!("{record:?}")));
    }

    #[test]
    fn written_json_is_read_back(
        tenant in "[ -~é\u{1f600}\"\\\\]{1,40}", level in 0_usize..5, pad in "[a-z\"\\\\{}\\[\\]]{0,40}",
    ) {
        let levels = ["trace", "debug", "info", "warn", "error"];
        let value = serde_json::json!({
            "a": pad, "nested": [{"x": pad}, pad], "tenant_id": tenant, "level": levels[level],
        });
        with_record(value.to_string().as_bytes(), |record| {
            prop_assert_eq!(record.format, Format::Json);
            prop_assert_eq!(record.severity.name(), levels[level]);
            prop_assert_eq!(text_of_kind(&record, FieldKind::Tenant), Some(tenant.as_str()));
            Ok(())
        })?;
    }
}
