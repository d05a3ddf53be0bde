//! What the errors of brokers mean, on librdkafka's mock cluster: it answers any request with any
//! error. (It has no real transactions: what they guarantee is asked of the real broker.)

use std::time::Duration;

use blotter::daemon::broker::kafka::KafkaConfig;
use blotter::daemon::broker::{
    Broker, BrokerError, BrokerErrorKind as Kind, Connector, LookupFailure, SlotConfig,
};
use blotter::daemon::topics::TopicAdmin;
use blotter::pipeline::record::TopicPartition;
use blotter::pipeline::step::Lookup;
use rdkafka::ClientConfig;
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};

use crate::harness::{Deadline, now};
use crate::slots::{CALL, Slot, commit_of, connector, slot};

type Mock = MockCluster<'static, DefaultProducerContext>;

/// A mock cluster with the topics `source` and `output`, and a slot that owns its source.
fn owner(change: impl FnOnce(&mut SlotConfig)) -> (Mock, Slot) {
    let mock = MockCluster::new(2).expect("a mock cluster");
    for topic in ["source", "output"] {
        mock.create_topic(topic, 1, 1).expect("a topic");
    }
    let mut wanted = slot("g", "a", "source");
    change(&mut wanted);
    let connector = connector(&mock.bootstrap_servers(), &[]);
    let member = Slot::connect(&connector, &wanted).owning(1);
    (mock, member)
}

fn source() -> TopicPartition {
    TopicPartition::new("source", 0)
}

fn output() -> TopicPartition {
    TopicPartition::new("output", 0)
}

/// One whole transaction, by hand so that the failing call is known.
fn transaction(member: &mut Slot) -> Result<(), BrokerError> {
    member.begin_with(&output(), "x")?;
    member.broker.send_offsets(&[commit_of(&source(), 1)], Duration::from_secs(4))?;
    member.broker.commit(Duration::from_secs(4))
}

/// Lets the next request of `api` fail with `code`; the transaction must fail as `kind`, and the
/// one after a reset stand.
#[test]
fn each_error_of_a_transaction_has_its_meaning() {
    let (mock, mut member) = owner(|_| ());
    let cases = [
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED, Kind::ProducerFenced),
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Kind::ProducerFenced),
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, Kind::Fatal),
        (
            Api::EndTxn,
            Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Kind::NotAuthorized,
        ),
        (Api::AddPartitionsToTxn, Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED, Kind::ProducerFenced),
        (
            Api::AddPartitionsToTxn,
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Kind::NotAuthorized,
        ),
        (
            Api::AddOffsetsToTxn,
            Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED,
            Kind::NotAuthorized,
        ),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, Kind::StaleMember),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, Kind::StaleMember),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID, Kind::InstanceFenced),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE, Kind::Abortable),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Kind::RecordRefused),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP, Kind::RecordRefused),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_INVALID_RECORD, Kind::RecordRefused),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Kind::NotAuthorized),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH, Kind::ProducerFenced),
    ];
    let mut wrong = Vec::new();
    for (api, code, wanted) in cases {
        mock.request_errors(api, &[code]);
        let found = transaction(&mut member).map_err(|error| (error.kind, error.to_string()));
        if !matches!(&found, Err((kind, _)) if *kind == wanted) {
            wrong.push(format!("{api:?} {code:?}: {found:?}, not {wanted:?}"));
        }
        mock.clear_request_errors(api);
        member.broker.reset_producer(CALL).expect("a reset leads on from anything");
        transaction(&mut member).expect("nothing is wrong any more");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn passing_errors_are_repeated_inside_the_call() {
    let (mock, mut member) = owner(|_| ());
    let passing = [
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR__TRANSPORT),
        (Api::AddOffsetsToTxn, Code::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::AddPartitionsToTxn, Code::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS),
    ];
    for (api, code) in passing {
        mock.request_errors(api, &[code, code]);
        let outcome = transaction(&mut member);
        assert!(outcome.is_ok(), "{api:?} {code:?}: {outcome:?}");
    }
    mock.coordinator(MockCoordinator::Transaction("g-a".into()), 2).expect("moved");
    mock.coordinator(MockCoordinator::Group("g".into()), 2).expect("moved");
    transaction(&mut member).expect("the coordinators are found again");
    mock.coordinator(MockCoordinator::Transaction("g-a".into()), 1).expect("moved");
    mock.coordinator(MockCoordinator::Group("g".into()), 1).expect("moved");
    transaction(&mut member).expect("the coordinators are found again");
}

#[test]
fn silence_is_a_time_out_and_a_reset_leads_on() {
    let (mock, mut member) = owner(|_| ());
    member.begin_with(&output(), "x").expect("stored");
    member.broker.send_offsets(&[commit_of(&source(), 1)], CALL).expect("current");
    for broker in [1, 2] {
        mock.broker_round_trip_time(broker, Duration::from_secs(30)).expect("slow");
    }
    let before = now();
    let error = member.broker.commit(Duration::from_millis(700)).expect_err("no answer in time");
    assert_eq!(error.kind, Kind::TimedOut);
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
    let error = member.broker.reset_producer(Duration::from_millis(700)).expect_err("as slow");
    assert_eq!(error.kind, Kind::TimedOut);
    let error = member.broker.begin().expect_err("not initialized");
    assert_eq!(error.kind, Kind::Fatal);
    for broker in [1, 2] {
        mock.broker_round_trip_time(broker, Duration::ZERO).expect("fast");
        // What is under way stays slow: a new connection is not.
        mock.broker_down(broker).expect("down");
        mock.broker_up(broker).expect("up");
    }
    let deadline = Deadline::after_seconds(30);
    while let Err(error) = member.broker.reset_producer(Duration::from_secs(2)) {
        assert!(error.kind == Kind::TimedOut && !deadline.is_over(), "{error}");
    }
    transaction(&mut member).expect("nothing is wrong any more");
}

#[test]
fn connecting_says_why_it_fails() {
    let mock = MockCluster::new(1).expect("a mock cluster");
    let connector_of = |brokers: &str| connector(brokers, &[]);
    let wanted =
        SlotConfig { operation_timeout: Duration::from_millis(900), ..slot("g", "a", "source") };
    for (code, kind) in [
        (Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, Kind::NotAuthorized),
        (Code::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT, Kind::NotAuthorized),
    ] {
        mock.request_errors(Api::InitProducerId, &[code; 8]);
        let failed = connector_of(&mock.bootstrap_servers()).connect(&wanted).err();
        assert_eq!(failed.map(|error| error.kind), Some(kind), "{code:?}");
        mock.clear_request_errors(Api::InitProducerId);
    }
    // A port nobody listens on.
    let failed = connector_of("127.0.0.1:1").connect(&wanted).err();
    assert_eq!(failed.map(|error| error.kind), Some(Kind::TimedOut));
}

#[test]
fn a_fenced_instance_ends_its_member() {
    let (mock, mut member) = owner(|slot| slot.instance_id = Some("i".into()));
    mock.request_errors(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID; 3]);
    let deadline = Deadline::after_seconds(30);
    let error = loop {
        assert!(!deadline.is_over(), "the member notices");
        if let Err(error) = member.poll() {
            break error;
        }
    };
    assert_eq!(error.kind, Kind::InstanceFenced, "{error}");
}

#[test]
fn an_unknown_member_loses_its_partitions_and_joins_again() {
    let (mock, mut member) = owner(|_| ());
    mock.request_errors(Api::Heartbeat, &[Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID; 1]);
    let lost = |member: &Slot| {
        member.events.iter().any(|event| {
            matches!(event, blotter::daemon::broker::Event::Revoked { lost: true, .. })
        })
    };
    member.until("the loss", 30, lost);
    if member.owned.is_empty() {
        let error = member
            .begin_with(&output(), "x")
            .and_then(|_| member.broker.send_offsets(&[commit_of(&source(), 1)], CALL));
        assert_eq!(error.expect_err("no member").kind, Kind::StaleMember);
        member.broker.reset_producer(CALL).expect("a reset leads on");
    }
    member.until("the assignment", 40, |member| member.owned.len() == 1);
    transaction(&mut member).expect("a member again");
}

#[test]
fn look_ups_name_their_failure() {
    let (mock, mut member) = owner(|_| ());
    let failing = [
        (Code::RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT, LookupFailure::TimedOut),
        (Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, LookupFailure::NotAuthorized),
    ];
    for (code, failure) in failing {
        mock.request_errors(Api::OffsetFetch, &[code; 400]);
        assert_eq!(member.ask(&source(), Lookup::Committed).err(), Some(failure));
        mock.clear_request_errors(Api::OffsetFetch);
    }
    let missing = TopicPartition::new("source", 7);
    let range = member.ask(&source(), Lookup::Range(missing));
    assert_eq!(range.err(), Some(LookupFailure::UnknownPartition));
}

#[test]
fn a_partition_without_a_leader_is_counted() {
    let mock = MockCluster::new(1).expect("a mock cluster");
    mock.create_topic("measures", 12, 1).expect("a topic");
    mock.partition_leader("measures", 11, None).expect("taken away");
    let config = KafkaConfig { brokers: mock.bootstrap_servers(), ..KafkaConfig::default() };
    let admin = TopicAdmin::connect(&config, CALL).expect("plain settings");
    assert_eq!(admin.list().expect("the broker answers")["measures"], 12);
}

#[test]
fn a_broker_that_goes_and_comes_back_is_no_error() {
    let (mock, mut member) = owner(|_| ());
    member.broker.start(&source(), 0).expect("assigned");
    for broker in [1, 2] {
        mock.broker_down(broker).expect("down");
    }
    let silent = Deadline::after_seconds(2);
    while !silent.is_over() {
        member.poll().expect("a fault that passes shows as silence");
    }
    for broker in [1, 2] {
        mock.broker_up(broker).expect("up");
    }
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", mock.bootstrap_servers());
    let feeder: BaseProducer = config.create().expect("a producer");
    let record = BaseRecord::<[u8], str>::to("source").partition(0).payload("back");
    feeder.send(record).map_err(|(error, _)| error).expect("queued");
    feeder.flush(CALL).expect("stored");
    member.until("the record", 30, |member| member.values() == [(0, "back".to_owned())]);
    assert!(member.owned.len() == 1, "the group did not move");
}
