//! `GET /admin/v1/openapi.json`: every route under `/admin/v1` in the form that programs read (OpenAPI 3.1).

use axum::Json;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathItem, PathsBuilder,
    Ref, Required, ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema};

use super::custody::{KeepSecret, MakePair, SetResidence};
use super::types::{
    ChangeMember, KeyRow, ListOf, MadeKey, MakeKey, MakeMember, MakeOrganisation, MakeProject, MemberRow,
    OrganisationRow, Problem, ProjectRow,
};

/// A route as it is described.
struct Described {
    method: HttpMethod,
    path: &'static str,
    summary: &'static str,
    /// What may stand in the address behind the question mark.
    query: &'static [&'static str],
    /// The name of the body's schema.
    body: Option<&'static str>,
    /// The status of success, and the name of its schema.
    answer: (&'static str, Option<&'static str>),
}

use HttpMethod::{Delete, Get, Patch, Post};

/// How a page of a list is asked for.
const PAGED: [&str; 2] = ["limit", "after"];
const USAGE: &[&str] = &["from", "to", "by", "project", "key", "model", "format", "limit", "after_ms", "after"];

const ROUTES: &[Described] = &[
    row(Get, "/admin/v1/openapi.json", "This description"),
    row(Get, "/admin/v1/organisations", "The organisations that the caller sees")
        .asking(&PAGED)
        .answering("200", "ListOfOrganisations"),
    row(Post, "/admin/v1/organisations", "Make an organisation")
        .taking("MakeOrganisation")
        .answering("201", "Organisation"),
    row(Delete, "/admin/v1/organisations/{id}", "Close an organisation").ending(),
    row(Get, "/admin/v1/projects", "The projects that the caller sees")
        .asking(&["organisation", "limit", "after"])
        .answering("200", "ListOfProjects"),
    row(Post, "/admin/v1/projects", "Make a project").taking("MakeProject").answering("201", "Project"),
    row(Delete, "/admin/v1/projects/{id}", "Close a project: its keys open nothing any more").ending(),
    row(Get, "/admin/v1/members", "The members that the caller sees")
        .asking(&["organisation", "limit", "after"])
        .answering("200", "ListOfMembers"),
    row(Post, "/admin/v1/members", "Let somebody join").taking("MakeMember").answering("201", "Member"),
    row(Patch, "/admin/v1/members/{id}", "Give a member another role").taking("ChangeMember"),
    row(Delete, "/admin/v1/members/{id}", "Remove a member").ending(),
    row(Get, "/admin/v1/keys", "The keys that the caller sees")
        .asking(&["organisation", "project", "limit", "after"])
        .answering("200", "ListOfKeys"),
    row(Post, "/admin/v1/keys", "Make a key; its text is in the answer and nowhere else")
        .taking("MakeKey")
        .answering("201", "MadeKey"),
    row(Delete, "/admin/v1/keys/{id}", "Revoke a key at once").ending(),
    row(Get, "/admin/v1/key-pairs", "Key pairs of projects for vector buckets"),
    row(Post, "/admin/v1/key-pairs", "Make a key pair; its secret is in the answer and nowhere else")
        .taking("MakePair")
        .answering("201", "Any"),
    row(Delete, "/admin/v1/key-pairs/{access_key}", "Revoke a key pair at once").ending(),
    row(Get, "/admin/v1/secrets", "The names of secrets of pools"),
    row(Post, "/admin/v1/secrets", "Keep a secret, which nothing shows again")
        .taking("KeepSecret")
        .answering("201", "Any"),
    row(Delete, "/admin/v1/secrets/{name}", "Forget a secret").ending(),
    row(Get, "/admin/v1/residency", "Where data may be kept and computed on"),
    row(Post, "/admin/v1/residency/set", "Set where data of something may be kept and computed on")
        .taking("SetResidence")
        .ending(),
    row(Get, "/admin/v1/models", "Every model with its state and figures"),
    row(Post, "/admin/v1/models/load", "Load a model").taking("Named").ending(),
    row(Post, "/admin/v1/models/unload", "Unload a model when its running requests are done").taking("Named").ending(),
    row(Get, "/admin/v1/shelf", "The models that lie on this machine"),
    row(Get, "/admin/v1/shelf/{name}", "What a model consists of"),
    row(Get, "/admin/v1/pulls", "Models that are fetched from a hub, newest first, with how far each is"),
    row(Post, "/admin/v1/pulls", "Fetch a model from a hub; goes on by itself")
        .taking("Fetched")
        .answering("202", "Any"),
    row(Delete, "/admin/v1/pulls/{id}", "Stop fetching a model"),
    row(Get, "/admin/v1/requests", "The last requests, newest first"),
    row(Get, "/admin/v1/requests/{id}", "One of the last requests, with the times of its pieces"),
    row(Get, "/admin/v1/requests/tail", "Every request when it is over, as server-sent events"),
    row(Get, "/admin/v1/vectors/{bucket}/{index}", "What an index of vectors holds"),
    row(Get, "/admin/v1/routes", "Pools, routes and the last decisions"),
    row(Get, "/admin/v1/routes/explain", "Where a request would go, and why")
        .asking(&["model", "project", "key", "bucket"]),
    row(Get, "/admin/v1/plan", "Whether a model fits a cluster, and how fast it is"),
    row(Get, "/admin/v1/plan/choices", "What a plan can be asked for"),
    row(Get, "/admin/v1/usage", "What was used, by request, hour, day or in all").asking(USAGE),
    row(Get, "/admin/v1/ledger/accounts", "Accounts with what they hold").asking(&["project"]),
    row(Post, "/admin/v1/ledger/transactions", "Book a deposit, a refund or a credit line").taking("Any"),
    row(Post, "/admin/v1/ledger/audit", "Compute every rule of the books again"),
    row(Get, "/admin/v1/budgets", "Budgets with what is spent of them"),
    row(Post, "/admin/v1/budgets/set", "Limit what a project or key may spend").taking("Any"),
    row(Get, "/admin/v1/limits", "Limits of requests, tokens and answers at one time"),
    row(Post, "/admin/v1/limits/set", "Limit requests, tokens or answers of a project, key or model").taking("Any"),
    row(Get, "/admin/v1/prices", "The price list"),
    row(Get, "/admin/v1/invoices/{project}/{month}", "A month's invoice, as HTML or PDF").asking(&["format"]),
    row(Get, "/admin/v1/programmes", "Programmes that give credit"),
    row(Post, "/admin/v1/programmes/define", "Define a programme").taking("Any"),
    row(Post, "/admin/v1/programmes/apply", "Apply to a programme").taking("Any"),
    row(Get, "/admin/v1/programmes/applications", "Applications"),
    row(Post, "/admin/v1/programmes/applications/{id}/grant", "Grant an application").taking("Any"),
    row(Post, "/admin/v1/programmes/applications/{id}/reject", "Reject an application").taking("Any"),
    row(Get, "/admin/v1/programmes/grants", "Grants"),
    row(Get, "/admin/v1/programmes/grants/{id}", "A grant with its tranches, burn-down and trail"),
    row(Post, "/admin/v1/programmes/grants/{id}/release", "Release a tranche").taking("Any"),
    row(Post, "/admin/v1/programmes/grants/{id}/claw-back", "Take a grant back").taking("Any"),
];

const fn row(method: HttpMethod, path: &'static str, summary: &'static str) -> Described {
    Described { method, path, summary, query: &[], body: None, answer: ("200", None) }
}

impl Described {
    const fn asking(mut self, query: &'static [&'static str]) -> Self {
        self.query = query;
        self
    }

    const fn taking(mut self, body: &'static str) -> Self {
        self.body = Some(body);
        self
    }

    const fn answering(mut self, status: &'static str, schema: &'static str) -> Self {
        self.answer = (status, Some(schema));
        self
    }

    /// Success has no body.
    const fn ending(mut self) -> Self {
        self.answer = ("204", None);
        self
    }
}

pub(super) async fn show() -> Json<OpenApi> {
    Json(description())
}

fn description() -> OpenApi {
    let paths = ROUTES.iter().fold(PathsBuilder::new(), |paths, route| {
        paths.path(route.path, PathItem::new(route.method.clone(), operation(route)))
    });
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("a key, sk-sampan-…"));
    let named = ObjectBuilder::new().property("model", String::schema()).required("model");
    let components = [
        schema::<MakeOrganisation>("MakeOrganisation"),
        schema::<MakeProject>("MakeProject"),
        schema::<MakeMember>("MakeMember"),
        schema::<ChangeMember>("ChangeMember"),
        schema::<MakeKey>("MakeKey"),
        schema::<MadeKey>("MadeKey"),
        schema::<OrganisationRow>("Organisation"),
        schema::<ProjectRow>("Project"),
        schema::<MemberRow>("Member"),
        schema::<KeyRow>("Key"),
        schema::<ListOf<OrganisationRow>>("ListOfOrganisations"),
        schema::<ListOf<ProjectRow>>("ListOfProjects"),
        schema::<ListOf<MemberRow>>("ListOfMembers"),
        schema::<ListOf<KeyRow>>("ListOfKeys"),
        schema::<MakePair>("MakePair"),
        schema::<KeepSecret>("KeepSecret"),
        schema::<SetResidence>("SetResidence"),
        schema::<Problem>("Problem"),
    ];
    let components =
        components.into_iter().fold(ComponentsBuilder::new(), |all, (name, schema)| all.schema(name, schema));
    let fetched = ["model", "from", "name"].into_iter();
    let fetched = fetched.fold(ObjectBuilder::new(), |schema, name| schema.property(name, String::schema()));
    let components = components
        .schema("Named", named)
        .schema("Fetched", fetched.required("model"))
        .schema("Any", ObjectBuilder::new())
        .security_scheme("key", SecurityScheme::Http(bearer.build()));
    OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Sampan's own API").version(env!("CARGO_PKG_VERSION")).build())
        .paths(paths.build())
        .components(Some(components.build()))
        .security(Some([SecurityRequirement::new("key", Vec::<String>::new())]))
        .build()
}

fn operation(route: &Described) -> OperationBuilder {
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = in_path.map(|name| (name, ParameterIn::Path, Required::True));
    let in_query = route.query.iter().map(|&name| (name, ParameterIn::Query, Required::False));
    let parameters = in_path.chain(in_query).map(|(name, place, required)| {
        let schema = if name == "limit" { u32::schema() } else { String::schema() };
        ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(schema)).build()
    });
    let refers = |name: &str| ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build();
    let body = route.body.map(|name| {
        RequestBodyBuilder::new().required(Some(Required::True)).content("application/json", refers(name)).build()
    });
    let (code, schema) = route.answer;
    let answer = ResponseBuilder::new().description(route.summary);
    let answer = match schema {
        Some(name) => answer.content("application/json", refers(name)),
        None => answer,
    };
    let problem = ResponseBuilder::new().description("Why not").content("application/json", refers("Problem"));
    OperationBuilder::new()
        .summary(Some(route.summary))
        .parameters(Some(parameters))
        .request_body(body)
        .response(code, answer.build())
        .response("default", problem.build())
}

fn schema<T: ToSchema>(name: &'static str) -> (&'static str, utoipa::openapi::RefOr<utoipa::openapi::Schema>) {
    (name, T::schema())
}

#[cfg(test)]
mod tests {
    use super::description;
    use crate::auth::routes;

    #[test]
    fn every_route_of_ours_is_described_and_nothing_else() {
        let described = serde_json::to_value(description()).unwrap();
        let mut found = Vec::new();
        for (path, item) in described["paths"].as_object().unwrap() {
            found.extend(item.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
        }
        let ours = routes().into_iter().filter(|(_, path)| path.starts_with("/admin/v1/"));
        let mut wanted: Vec<String> =
            ours.map(|(method, path)| format!("{method} {}", path.replace("{*", "{"))).collect();
        found.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(found, wanted, "describe it in admin/openapi.rs");
    }

    #[test]
    fn what_is_referred_to_is_there() {
        let described = serde_json::to_value(description()).unwrap();
        let text = described.to_string();
        for name in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(described["components"]["schemas"].get(name).is_some(), "{name}");
        }
    }
}
