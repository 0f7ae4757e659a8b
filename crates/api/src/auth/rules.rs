//! A rule for every route and method.

use axum::http::Method;

/// Who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Everybody.
    Public,
    /// The dialect itself checks a signature over the whole request.
    Signed,
    /// Whoever may use models.
    Use,
    /// Whoever may see what there is.
    Look,
    /// Whoever looks after an organisation; what they see and change of it, the directory decides.
    Manage,
    /// Whoever looks after this installation: an owner or admin of the organisation that runs it.
    Operate,
    /// Whoever moves money here: an owner of that organisation, or who has its billing.
    Money,
}

use Rule::{Look, Manage, Money, Operate, Public, Signed, Use};

/// Routes as the router spells them; a trailing `*` stands for any ending. What lies under one of [`MIRRORS`] has the
/// rule of what it mirrors. Asking for the head of a page is asking for the page.
const RULES: &[(&str, &str, Rule)] = &[
    ("GET", "/healthz", Public),
    ("GET", "/readyz", Public),
    // The console's files hold nothing that is not in the program.
    ("GET", "/", Public),
    ("GET", "/console/{version}/{*path}", Public),
    ("POST", "/console/render", Look),
    // Whoever signs in has nothing yet; whoever signs out needs nothing more.
    ("GET", "/console/session", Public),
    ("POST", "/console/session", Public),
    ("DELETE", "/console/session", Public),
    ("GET", "/console/sign-in", Public),
    ("GET", "/console/sign-in/back", Public),
    // Our own.
    ("GET", "/metrics", Look),
    ("GET", "/admin/v1/requests", Operate),
    ("GET", "/admin/v1/requests/{id}", Operate),
    ("GET", "/admin/v1/requests/tail", Operate),
    ("GET", "/admin/v1/models", Look),
    ("POST", "/admin/v1/models/load", Operate),
    ("POST", "/admin/v1/models/unload", Operate),
    ("GET", "/admin/v1/shelf", Look),
    ("GET", "/admin/v1/shelf/{*name}", Look),
    // A model's files are whoever's runs the place.
    ("GET", "/api/models/{name}", Operate),
    ("GET", "/api/models/{name}/revision/{revision}", Operate),
    ("GET", "/api/models/{owner}/{name}", Operate),
    ("GET", "/api/models/{owner}/{name}/revision/{revision}", Operate),
    ("GET", "/api/models/{name}/tree/{revision}", Operate),
    ("GET", "/api/models/{owner}/{name}/tree/{revision}", Operate),
    ("POST", "/api/models/{name}/send/{revision}", Operate),
    ("POST", "/api/models/{owner}/{name}/send/{revision}", Operate),
    ("GET", "/{name}/resolve/{revision}/{*path}", Operate),
    ("GET", "/{owner}/{name}/resolve/{revision}/{*path}", Operate),
    ("GET", "/admin/v1/pulls", Operate),
    ("POST", "/admin/v1/pulls", Operate),
    ("DELETE", "/admin/v1/pulls/{id}", Operate),
    ("GET", "/admin/v1/plan", Look),
    ("GET", "/admin/v1/plan/choices", Look),
    ("GET", "/admin/v1/vectors/{bucket}/{index}", Operate),
    ("GET", "/admin/v1/routes", Operate),
    ("GET", "/admin/v1/routes/explain", Operate),
    // Who there is. How much of it somebody sees and changes, the directory decides.
    ("GET", "/admin/v1/openapi.json", Look),
    ("GET", "/admin/v1/organisations", Look),
    ("POST", "/admin/v1/organisations", Operate),
    ("DELETE", "/admin/v1/organisations/{id}", Operate),
    ("GET", "/admin/v1/projects", Look),
    ("POST", "/admin/v1/projects", Manage),
    ("DELETE", "/admin/v1/projects/{id}", Manage),
    ("GET", "/admin/v1/members", Look),
    ("POST", "/admin/v1/members", Manage),
    ("PATCH", "/admin/v1/members/{id}", Manage),
    ("DELETE", "/admin/v1/members/{id}", Manage),
    ("GET", "/admin/v1/keys", Look),
    ("POST", "/admin/v1/keys", Use),
    ("DELETE", "/admin/v1/keys/{id}", Look),
    // What lies in custody for whoever runs the place.
    ("GET", "/admin/v1/key-pairs", Operate),
    ("POST", "/admin/v1/key-pairs", Operate),
    ("DELETE", "/admin/v1/key-pairs/{access_key}", Operate),
    ("GET", "/admin/v1/secrets", Operate),
    ("POST", "/admin/v1/secrets", Operate),
    ("DELETE", "/admin/v1/secrets/{name}", Operate),
    ("GET", "/admin/v1/residency", Operate),
    ("POST", "/admin/v1/residency/set", Operate),
    // The books. Whoever may look sees their own project only, unless they run the place or its money.
    ("GET", "/v1/usage", Use),
    ("GET", "/admin/v1/usage", Look),
    ("GET", "/admin/v1/ledger/accounts", Look),
    ("POST", "/admin/v1/ledger/transactions", Money),
    ("POST", "/admin/v1/ledger/audit", Operate),
    ("GET", "/admin/v1/budgets", Look),
    ("POST", "/admin/v1/budgets/set", Money),
    ("GET", "/admin/v1/limits", Look),
    ("POST", "/admin/v1/limits/set", Operate),
    ("GET", "/admin/v1/prices", Look),
    ("GET", "/admin/v1/invoices/{project}/{month}", Look),
    ("GET", "/admin/v1/programmes", Look),
    ("POST", "/admin/v1/programmes/define", Money),
    ("POST", "/admin/v1/programmes/apply", Use),
    ("GET", "/admin/v1/programmes/applications", Look),
    ("POST", "/admin/v1/programmes/applications/{id}/grant", Money),
    ("POST", "/admin/v1/programmes/applications/{id}/reject", Money),
    ("GET", "/admin/v1/programmes/grants", Look),
    ("GET", "/admin/v1/programmes/grants/{id}", Look),
    ("POST", "/admin/v1/programmes/grants/{id}/release", Money),
    ("POST", "/admin/v1/programmes/grants/{id}/claw-back", Money),
    // Models by name.
    ("GET", "/v1/models", Look),
    ("GET", "/v1/models/{*id}", Look),
    ("GET", "/api/tags", Look),
    ("GET", "/api/ps", Look),
    ("POST", "/api/show", Look),
    ("GET", "/api/version", Look),
    // OpenAI.
    ("POST", "/v1/chat/completions", Use),
    ("POST", "/v1/completions", Use),
    ("POST", "/infill", Use),
    ("POST", "/v1/embeddings", Use),
    ("POST", "/v1/responses", Use),
    ("GET", "/v1/responses/{id}", Use),
    ("DELETE", "/v1/responses/{id}", Use),
    ("POST", "/v1/responses/{id}/cancel", Use),
    ("GET", "/v1/responses/{id}/input_items", Use),
    ("POST", "/v1/responses/input_tokens", Use),
    ("GET", "/v1/files", Look),
    ("POST", "/v1/files", Use),
    ("GET", "/v1/files/{id}", Look),
    ("DELETE", "/v1/files/{id}", Use),
    ("GET", "/v1/files/{id}/content", Use),
    ("GET", "/v1/batches", Look),
    ("POST", "/v1/batches", Use),
    ("GET", "/v1/batches/{id}", Look),
    ("POST", "/v1/batches/{id}/cancel", Use),
    // Anthropic.
    ("POST", "/v1/messages", Use),
    ("POST", "/v1/messages/count_tokens", Use),
    ("GET", "/v1/messages/batches", Look),
    ("POST", "/v1/messages/batches", Use),
    ("GET", "/v1/messages/batches/{id}", Look),
    ("DELETE", "/v1/messages/batches/{id}", Use),
    ("POST", "/v1/messages/batches/{id}/cancel", Use),
    ("GET", "/v1/messages/batches/{id}/results", Use),
    // Ollama.
    ("POST", "/api/chat", Use),
    ("POST", "/api/generate", Use),
    ("POST", "/api/embed", Use),
    ("POST", "/api/embeddings", Use),
    // Cohere and its kin.
    ("POST", "/v1/rerank", Use),
    ("POST", "/v2/rerank", Use),
    ("POST", "/rerank", Use),
    ("POST", "/compatible-api/v1/reranks", Use),
    // DashScope.
    ("POST", "/api/v1/services/*", Use),
    // Amazon S3 Vectors.
    ("POST", "/CreateVectorBucket", Signed),
    ("POST", "/GetVectorBucket", Signed),
    ("POST", "/DeleteVectorBucket", Signed),
    ("POST", "/ListVectorBuckets", Signed),
    ("POST", "/PutVectorBucketPolicy", Signed),
    ("POST", "/GetVectorBucketPolicy", Signed),
    ("POST", "/DeleteVectorBucketPolicy", Signed),
    ("POST", "/PutVectorBucketDefaultIndexMode", Signed),
    ("POST", "/CreateIndex", Signed),
    ("POST", "/GetIndex", Signed),
    ("POST", "/DeleteIndex", Signed),
    ("POST", "/ListIndexes", Signed),
    ("POST", "/UpdateIndexMode", Signed),
    ("POST", "/UpdateMetadataConfiguration", Signed),
    ("POST", "/PutVectors", Signed),
    ("POST", "/GetVectors", Signed),
    ("POST", "/DeleteVectors", Signed),
    ("POST", "/ListVectors", Signed),
    ("POST", "/QueryVectors", Signed),
    ("POST", "/SubscribeVectors", Signed),
    ("POST", "/PutTimeToLive", Signed),
    ("GET", "/tags/{*arn}", Signed),
    ("POST", "/tags/{*arn}", Signed),
    ("DELETE", "/tags/{*arn}", Signed),
];

/// Where clients of Alibaba Cloud's Model Studio find two dialects.
const MIRRORS: [&str; 2] = ["/compatible-mode", "/apps/anthropic"];

/// What holds for a method of a route.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// This.
    Rule(Rule),
    /// The route has rules, and none for this method; these are the methods that have one.
    OtherMethods(Vec<&'static str>),
    /// The route has no rule: nobody passes.
    Nothing,
}

/// The rule of a route's method.
pub(super) fn of(method: &Method, route: &str) -> Found {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let rules: Vec<_> = RULES.iter().filter(|(_, pattern, _)| fits(pattern, mirrored(route))).collect();
    match rules.iter().find(|(known, ..)| *known == method) {
        Some(&&(_, _, rule)) => Found::Rule(rule),
        None if rules.is_empty() => Found::Nothing,
        None => Found::OtherMethods(rules.into_iter().map(|&(known, ..)| known).collect()),
    }
}

fn mirrored(route: &str) -> &str {
    let inner = MIRRORS.into_iter().find_map(|mirror| route.strip_prefix(mirror));
    inner.filter(|inner| inner.starts_with("/v1/")).unwrap_or(route)
}

fn fits(pattern: &str, route: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => route.starts_with(beginning),
        None => route == pattern,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashMap;
    use std::sync::Arc;

    use axum::http::Method;
    use base::ManualClock;
    use chat::testing::Scripted;

    use super::{Found, RULES, fits, mirrored, of};
    use crate::{App, router};

    /// The methods and paths of all routes, out of what the router prints of itself.
    pub(crate) fn routes() -> Vec<(Method, String)> {
        let app = App::new(Arc::new(Scripted::new("m", Vec::new())), Arc::new(ManualClock::default()), 1);
        let printed = format!("{:?}", router(Arc::new(app)));
        // What answers for addresses that nobody serves follows, with numbers of its own.
        let (printed, _) = printed.split_once("fallback_router:").unwrap();
        // `RouteId(7): MethodRouter(MethodRouter { … allow_header: Bytes(b"GET,HEAD") })` and `RouteId(7): "/path"`.
        let mut methods: HashMap<&str, &str> = HashMap::new();
        let mut paths: Vec<(&str, &str)> = Vec::new();
        for rest in printed.split("RouteId(") {
            let Some((id, rest)) = rest.split_once("): ") else { continue };
            if let Some(path) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                paths.push((id, path));
            } else if let Some((_, allowed)) = rest.split_once("allow_header: Bytes(b\"") {
                methods.insert(id, allowed.split('"').next().unwrap_or_default());
            }
        }
        let mut found = Vec::new();
        for (id, path) in paths {
            if !path.starts_with('/') || path.contains("__private__axum") {
                continue;
            }
            for method in methods[id].split(',').filter(|method| *method != "HEAD") {
                found.push((method.parse().unwrap(), path.to_owned()));
            }
        }
        found.sort_by_key(|(method, path): &(Method, String)| (path.clone(), method.to_string()));
        found.dedup();
        found
    }

    #[test]
    fn every_method_of_every_route_has_a_rule() {
        let routes = routes();
        assert!(routes.len() > 60, "the router prints its routes in another form now: {routes:?}");
        assert!(routes.contains(&(Method::DELETE, "/v1/files/{id}".to_owned())), "{routes:?}");
        let without: Vec<_> =
            routes.iter().filter(|(method, path)| !matches!(of(method, path), Found::Rule(_))).collect();
        assert!(without.is_empty(), "add a rule in auth/rules.rs for {without:?}");
        let serves = |known: &str, pattern: &str| {
            routes.iter().any(|(method, path)| method.as_str() == known && fits(pattern, mirrored(path)))
        };
        let unused: Vec<_> = RULES.iter().filter(|(method, pattern, _)| !serves(method, pattern)).collect();
        assert!(unused.is_empty(), "rules without a route: {unused:?}");
    }

    #[test]
    fn what_has_no_rule_is_nobodys() {
        assert_eq!(of(&Method::GET, "/v1/models/"), Found::Nothing);
        assert_eq!(of(&Method::GET, "/admin"), Found::Nothing);
        assert_eq!(of(&Method::GET, "/compatible-mode/admin/v1/models"), Found::Nothing);
        assert_eq!(of(&Method::PUT, "/admin/v1/keys"), Found::OtherMethods(vec!["GET", "POST"]));
        assert_eq!(of(&Method::HEAD, "/v1/models"), of(&Method::GET, "/compatible-mode/v1/models"));
    }
}
