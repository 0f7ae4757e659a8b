//! A rule for every route.

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
    /// Whoever runs the place.
    Manage,
}

/// Routes as the router spells them; a trailing `*` stands for any ending.
const RULES: &[(&str, Rule)] = &[
    ("/healthz", Rule::Public),
    ("/readyz", Rule::Public),
    // The console's files hold nothing that is not in the program.
    ("/", Rule::Public),
    ("/console/{version}/{*path}", Rule::Public),
    ("/console/render", Rule::Look),
    // Our own.
    ("/metrics", Rule::Look),
    ("/admin/v1/requests", Rule::Manage),
    ("/admin/v1/requests/tail", Rule::Manage),
    ("/admin/v1/models", Rule::Look),
    ("/admin/v1/models/load", Rule::Manage),
    ("/admin/v1/models/unload", Rule::Manage),
    ("/admin/v1/shelf", Rule::Look),
    ("/admin/v1/shelf/{*name}", Rule::Look),
    ("/admin/v1/plan", Rule::Look),
    ("/admin/v1/vectors/{bucket}/{index}", Rule::Manage),
    ("/admin/v1/routes", Rule::Manage),
    ("/admin/v1/routes/explain", Rule::Manage),
    ("/admin/v1/plan/choices", Rule::Look),
    // The books. Whoever may look sees their own project only, unless they run the place or its money.
    ("/v1/usage", Rule::Use),
    ("/admin/v1/usage", Rule::Look),
    ("/admin/v1/ledger/accounts", Rule::Look),
    ("/admin/v1/ledger/transactions", Rule::Manage),
    ("/admin/v1/ledger/audit", Rule::Manage),
    ("/admin/v1/budgets", Rule::Look),
    ("/admin/v1/budgets/set", Rule::Manage),
    ("/admin/v1/prices", Rule::Look),
    ("/admin/v1/invoices/{project}/{month}", Rule::Look),
    ("/admin/v1/programmes", Rule::Look),
    ("/admin/v1/programmes/define", Rule::Manage),
    ("/admin/v1/programmes/apply", Rule::Use),
    ("/admin/v1/programmes/applications", Rule::Look),
    ("/admin/v1/programmes/applications/{id}/grant", Rule::Manage),
    ("/admin/v1/programmes/applications/{id}/reject", Rule::Manage),
    ("/admin/v1/programmes/grants", Rule::Look),
    ("/admin/v1/programmes/grants/{id}", Rule::Look),
    ("/admin/v1/programmes/grants/{id}/release", Rule::Manage),
    ("/admin/v1/programmes/grants/{id}/claw-back", Rule::Manage),
    // Models by name.
    ("/v1/models", Rule::Look),
    ("/v1/models/{*id}", Rule::Look),
    ("/compatible-mode/v1/models", Rule::Look),
    ("/compatible-mode/v1/models/{*id}", Rule::Look),
    ("/apps/anthropic/v1/models", Rule::Look),
    ("/apps/anthropic/v1/models/{*id}", Rule::Look),
    ("/api/tags", Rule::Look),
    ("/api/ps", Rule::Look),
    ("/api/show", Rule::Look),
    ("/api/version", Rule::Look),
    // OpenAI.
    ("/v1/chat/completions", Rule::Use),
    ("/v1/completions", Rule::Use),
    ("/v1/embeddings", Rule::Use),
    ("/v1/responses", Rule::Use),
    ("/v1/responses/{id}", Rule::Use),
    ("/v1/responses/{id}/cancel", Rule::Use),
    ("/v1/responses/{id}/input_items", Rule::Use),
    ("/v1/responses/input_tokens", Rule::Use),
    ("/compatible-mode/v1/chat/completions", Rule::Use),
    ("/compatible-mode/v1/completions", Rule::Use),
    ("/compatible-mode/v1/embeddings", Rule::Use),
    ("/v1/files", Rule::Use),
    ("/v1/files/{id}", Rule::Use),
    ("/v1/files/{id}/content", Rule::Use),
    ("/v1/batches", Rule::Use),
    ("/v1/batches/{id}", Rule::Use),
    ("/v1/batches/{id}/cancel", Rule::Use),
    ("/compatible-mode/v1/files", Rule::Use),
    ("/compatible-mode/v1/files/{id}", Rule::Use),
    ("/compatible-mode/v1/files/{id}/content", Rule::Use),
    ("/compatible-mode/v1/batches", Rule::Use),
    ("/compatible-mode/v1/batches/{id}", Rule::Use),
    ("/compatible-mode/v1/batches/{id}/cancel", Rule::Use),
    ("/compatible-mode/v1/responses", Rule::Use),
    ("/compatible-mode/v1/responses/{id}", Rule::Use),
    ("/compatible-mode/v1/responses/{id}/cancel", Rule::Use),
    ("/compatible-mode/v1/responses/{id}/input_items", Rule::Use),
    ("/compatible-mode/v1/responses/input_tokens", Rule::Use),
    // Anthropic.
    ("/v1/messages", Rule::Use),
    ("/v1/messages/count_tokens", Rule::Use),
    ("/apps/anthropic/v1/messages", Rule::Use),
    ("/apps/anthropic/v1/messages/count_tokens", Rule::Use),
    ("/v1/messages/batches", Rule::Use),
    ("/v1/messages/batches/{id}", Rule::Use),
    ("/v1/messages/batches/{id}/cancel", Rule::Use),
    ("/v1/messages/batches/{id}/results", Rule::Use),
    ("/apps/anthropic/v1/messages/batches", Rule::Use),
    ("/apps/anthropic/v1/messages/batches/{id}", Rule::Use),
    ("/apps/anthropic/v1/messages/batches/{id}/cancel", Rule::Use),
    ("/apps/anthropic/v1/messages/batches/{id}/results", Rule::Use),
    // Ollama.
    ("/api/chat", Rule::Use),
    ("/api/generate", Rule::Use),
    ("/api/embed", Rule::Use),
    ("/api/embeddings", Rule::Use),
    // Cohere and its kin.
    ("/v1/rerank", Rule::Use),
    ("/v2/rerank", Rule::Use),
    ("/rerank", Rule::Use),
    ("/compatible-api/v1/reranks", Rule::Use),
    // DashScope.
    ("/api/v1/services/*", Rule::Use),
    // Amazon S3 Vectors.
    ("/CreateVectorBucket", Rule::Signed),
    ("/GetVectorBucket", Rule::Signed),
    ("/DeleteVectorBucket", Rule::Signed),
    ("/ListVectorBuckets", Rule::Signed),
    ("/PutVectorBucketPolicy", Rule::Signed),
    ("/GetVectorBucketPolicy", Rule::Signed),
    ("/DeleteVectorBucketPolicy", Rule::Signed),
    ("/PutVectorBucketDefaultIndexMode", Rule::Signed),
    ("/CreateIndex", Rule::Signed),
    ("/GetIndex", Rule::Signed),
    ("/DeleteIndex", Rule::Signed),
    ("/ListIndexes", Rule::Signed),
    ("/UpdateIndexMode", Rule::Signed),
    ("/UpdateMetadataConfiguration", Rule::Signed),
    ("/PutVectors", Rule::Signed),
    ("/GetVectors", Rule::Signed),
    ("/DeleteVectors", Rule::Signed),
    ("/ListVectors", Rule::Signed),
    ("/QueryVectors", Rule::Signed),
    ("/tags/{*arn}", Rule::Signed),
];

/// The rule of a route.
pub(super) fn of(route: &str) -> Option<Rule> {
    let fits = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => route.starts_with(beginning),
        None => route == pattern,
    };
    RULES.iter().find(|(pattern, _)| fits(pattern)).map(|&(_, rule)| rule)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::ManualClock;
    use chat::testing::Scripted;

    use super::{RULES, of};
    use crate::{App, router};

    /// The paths of all routes, out of what the router prints of itself.
    fn routes() -> Vec<String> {
        let app = App::new(Arc::new(Scripted::new("m", Vec::new())), Arc::new(ManualClock::default()), 1);
        let printed = format!("{:?}", router(Arc::new(app)));
        let mut found: Vec<String> = printed
            .split("RouteId(")
            .filter_map(|rest| Some(rest.split_once("): \"")?.1.split('"').next()?.to_owned()))
            .filter(|path| path.starts_with('/') && !path.contains("__private__axum"))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    #[test]
    fn every_route_has_a_rule() {
        let routes = routes();
        assert!(routes.len() > 40, "the router prints its routes in another form now: {routes:?}");
        let without: Vec<&String> = routes.iter().filter(|route| of(route).is_none()).collect();
        assert!(without.is_empty(), "add a rule in auth/rules.rs for {without:?}");
        let fits = |pattern: &str| {
            let beginning = pattern.strip_suffix('*');
            routes.iter().any(|route| beginning.map_or(route == pattern, |beginning| route.starts_with(beginning)))
        };
        let unused: Vec<&str> = RULES.iter().map(|&(pattern, _)| pattern).filter(|pattern| !fits(pattern)).collect();
        assert!(unused.is_empty(), "rules without a route: {unused:?}");
    }

    #[test]
    fn what_has_no_rule_is_nobodys() {
        assert_eq!(of("/v1/models/"), None);
        assert_eq!(of("/admin"), None);
    }
}
