//! The roles on their gRPC ports, in one process and in several.

#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

mod common;

use common::{FakeOwner, Hub, Mood, Node, NodeScript, nobody, url};
use proto::cat_analysis_client::CatAnalysisClient;
use proto::dog_client::DogClient;
use proto::owner_client::OwnerClient;
use proto::{AnalysisRequest, DogRequest, NotifyRequest};
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

fn channel(address: std::net::SocketAddr) -> Channel {
    hub_base::peer::channel(&url(address)).unwrap()
}

async fn hub() -> (Hub, Node, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript::default()).await;
    let hub = Hub::start(dir.path(), &node.url()).await;
    (hub, node, dir)
}

#[tokio::test]
async fn each_port_answers_as_the_contract_says() {
    let (hub, _node, _dir) = hub().await;
    let request = |name: &str, kind: &str| NotifyRequest { animal_name: name.into(), animal_type: kind.into() };
    let mut owner = OwnerClient::new(channel(hub.owner));
    let answer = owner.notify(request("Tom", "cat")).await.unwrap().into_inner();
    assert_eq!(answer.message, "Owner of Tom cat is notified");
    assert_eq!(owner.notify(request("", "")).await.unwrap().into_inner().message, "Owner of   is notified");

    let mut dog = DogClient::new(channel(hub.dog));
    for (name, bark) in [("Rex", "Rex is going to bark!"), ("", " is going to bark!"), ("Ä", "Ä is going to bark!")] {
        let answer = dog.call_dog(DogRequest { dog_name: name.into() }).await.unwrap().into_inner();
        assert_eq!(answer.dog_bark, bark);
    }

    let mut analysis = CatAnalysisClient::new(channel(hub.analysis));
    let answer = analysis.analyze_sound(AnalysisRequest { cat_name: "Tom".into() }).await.unwrap().into_inner();
    assert_eq!((answer.result.as_str(), answer.analysis_id), ("Analyzing Tom ...", 1));
}

#[tokio::test]
async fn name_that_is_too_long_is_an_invalid_argument() {
    let (hub, _node, _dir) = hub().await;
    let mut analysis = CatAnalysisClient::new(channel(hub.analysis));
    let status = analysis.analyze_sound(AnalysisRequest { cat_name: "x".repeat(1025) }).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test]
async fn owner_that_hangs_and_owner_that_is_gone_give_different_errors() {
    let dir = tempfile::tempdir().unwrap();
    let call = async |owner_url: String| {
        let hub = Hub::start_with(dir.path(), &format!("only = [\"dog\"]\nowner_url = {owner_url:?}")).await;
        let mut dog = DogClient::new(channel(hub.dog));
        let status = dog.call_dog(DogRequest { dog_name: "Rex".into() }).await.unwrap_err();
        hub.stop().await;
        status.code()
    };
    let owner = FakeOwner::start(Mood::Hangs).await;
    assert_eq!(call(url(owner.address)).await, Code::DeadlineExceeded);
    assert_eq!(owner.notified(), [("Rex".into(), "Dog".into())]);
    assert_eq!(call(url(nobody().await)).await, Code::Unavailable);
}

#[tokio::test]
async fn deadline_of_the_caller_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let owner = FakeOwner::start(Mood::Hangs).await;
    let hub = Hub::start_with(dir.path(), &format!("only = [\"dog\"]\nowner_url = \"{}\"", url(owner.address))).await;
    let mut request = Request::new(DogRequest { dog_name: "Rex".into() });
    request.set_timeout(std::time::Duration::from_millis(100));
    let status = DogClient::new(channel(hub.dog)).call_dog(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status}");
}

#[tokio::test]
async fn roles_work_as_processes_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(NodeScript::default()).await;
    let owner = Hub::start_with(dir.path(), "only = [\"owner\"]").await;
    let toml = format!("only = [\"dog\"]\nowner_url = \"{}\"", url(owner.owner));
    let dog = Hub::start_with(dir.path(), &toml).await;
    let toml = format!("only = [\"analysis\"]\nnode = [{:?}]", node.url());
    let analysis = Hub::start_with(dir.path(), &toml).await;
    let toml = format!(
        "only = [\"gateway\"]\nnode = [{:?}]\ndog_url = \"{}\"\nanalysis_url = \"{}\"",
        node.url(),
        url(dog.dog),
        url(analysis.analysis)
    );
    let gateway = Hub::start_with(dir.path(), &toml).await;

    assert_eq!(gateway.get("/cat/Tom").await.body, "{\"catMeaw\":\"Tom: MEEEWWWWW\"}\n");
    assert_eq!(gateway.get("/dog/Rex").await.body, "{\"dogBark\":\"Rex is going to bark!\"}\n");
    let path = gateway.analyze("Tom").await;
    assert_eq!(gateway.ended(&path).await["status"], "complete");
    let ready = gateway.json("/readyz").await;
    assert_eq!((&ready["checks"]["dog"]["ok"], &ready["checks"]["analysis"]["ok"]), (&true.into(), &true.into()));

    owner.stop().await;
    assert_eq!(gateway.get("/dog/Rex").await.problem(), (503, "owner_unavailable".into()));
    dog.stop().await;
    assert_eq!(gateway.get("/dog/Rex").await.problem(), (503, "dog_unavailable".into()));
}

#[tokio::test]
async fn each_port_has_health_and_reflection() {
    let (hub, _node, _dir) = hub().await;
    for (address, service) in [(hub.owner, "proto.Owner"), (hub.dog, "proto.dog"), (hub.analysis, "proto.catAnalysis")]
    {
        let mut health = HealthClient::new(channel(address));
        for name in ["", service] {
            let answer = health.check(HealthCheckRequest { service: name.into() }).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
        }
        let unknown = health.check(HealthCheckRequest { service: "proto.bird".into() }).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);

        let ask = |request| ServerReflectionRequest { host: String::new(), message_request: Some(request) };
        let asked = [
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(service.into())),
        ];
        let mut reflection = ServerReflectionClient::new(channel(address));
        let answers = reflection.server_reflection_info(tokio_stream::iter(asked)).await.unwrap().into_inner();
        let answers: Vec<ServerReflectionResponse> = answers.map(Result::unwrap).collect().await;
        let Some(MessageResponse::ListServicesResponse(list)) = &answers[0].message_response else { panic!() };
        let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
        assert!(names.contains(&service) && names.contains(&"grpc.health.v1.Health"), "{names:?}");
        assert_eq!(names.iter().filter(|name| name.starts_with("proto.")).count(), 1, "{names:?}");
        assert!(matches!(&answers[1].message_response, Some(MessageResponse::FileDescriptorResponse(_))));
    }
}

#[tokio::test]
async fn second_hub_on_the_same_data_directory_is_refused() {
    let (hub, node, dir) = hub().await;
    let settings: hub::config::HubSettings =
        toml::from_str(&format!("node = [{:?}]\ndata_dir = {:?}", node.url(), dir.path())).unwrap();
    let stop = daemon::shutdown::CancellationToken::new();
    let error = hub::run::run(settings, hub::run::Listeners::default(), stop).await.unwrap_err();
    assert!(error.to_string().contains("another hub"), "{error}");
    assert_eq!(hub.get("/dog/Rex").await.status, 200);
}
