//! Where people sign in to the console, other than by a key.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use api::App;
use base::Clock;
use clap::Args;
use meta::Vault;
use oidc::{Options, Provider};

use crate::route_commands;

/// Where people come from.
#[derive(Args, Clone)]
pub(crate) struct SignIn {
    /// The address that people know this server by, as https://sampan.example.com: for cookies, and for sending
    /// browsers back.
    #[arg(long, value_name = "URL", env = "SAMPAN_PUBLIC_URL")]
    public_url: Option<String>,
    /// Let members sign in to the console at this OpenID Connect provider, by their verified addresses. It must be
    /// told to send browsers back to PUBLIC_URL/console/sign-in/back.
    #[arg(long, value_name = "URL", env = "SAMPAN_OIDC_ISSUER")]
    oidc_issuer: Option<String>,
    /// The name that the provider knows this server by.
    #[arg(long, value_name = "ID", env = "SAMPAN_OIDC_CLIENT")]
    oidc_client: Option<String>,
    /// The secret that it knows it by, if there is one: env:VARIABLE, file:PATH, or sealed:NAME (`sampan admin
    /// secret`).
    #[arg(long, value_name = "SECRET", env = "SAMPAN_OIDC_SECRET")]
    oidc_secret: Option<String>,
}

impl SignIn {
    /// Whether people sign in elsewhere, too.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.oidc_issuer.is_some()
    }

    /// The app with whatever of it was asked for.
    pub(crate) async fn of(&self, app: App, vault: &Vault, clock: &Arc<dyn Clock>) -> anyhow::Result<App> {
        let app = match self.address()? {
            Some(address) => app.with_public_url(address.to_owned()),
            None => app,
        };
        let Some(issuer) = &self.oidc_issuer else {
            if self.oidc_client.is_some() || self.oidc_secret.is_some() {
                bail!("--oidc-client and --oidc-secret are nothing without --oidc-issuer");
            }
            return Ok(app);
        };
        let Some(address) = self.address()? else {
            bail!("--oidc-issuer needs --public-url, where it sends browsers back to")
        };
        let client = self.oidc_client.clone().context("--oidc-issuer needs --oidc-client")?;
        let secret = match &self.oidc_secret {
            Some(name) => {
                let sealed = vault.secrets().await.context("open the sealed secrets")?;
                let secret = route_commands::secret(name, &sealed).map_err(anyhow::Error::msg);
                Some(secret.with_context(|| format!("--oidc-secret {name}"))?.trim_end().to_owned())
            }
            None => None,
        };
        let (issuer, redirect) = (issuer.clone(), format!("{address}/console/sign-in/back"));
        let provider = Provider::new(Options { issuer, client, secret, redirect }, Arc::clone(clock))?;
        Ok(app.with_sign_in(provider))
    }

    /// The public address without a slash at its end.
    fn address(&self) -> anyhow::Result<Option<&str>> {
        let Some(url) = &self.public_url else { return Ok(None) };
        let address = url.trim_end_matches('/');
        let host = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://")).unwrap_or_default();
        if host.is_empty() || host.contains(['/', '?', '#', '@', ' ']) {
            bail!("--public-url {url:?}: it is written https://HOST or http://HOST:PORT, without a path");
        }
        Ok(Some(address))
    }
}
