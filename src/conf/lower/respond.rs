//! What the conf means for routes that answer themselves: `respond` and `redirect`.
//!
//! Such a route sends nobody anywhere, so whatever else says how a call is sent is refused beside it.

use std::sync::Arc;

use outrigger_codec::{Redirect, Response, change::Line};

use super::{
    super::{changes::Rewrite, file, respond as written, yaml::At},
    Carries, Lowering,
};

/// The longest body, in bytes: it is written in one piece.
const BODY_MAX: usize = 4 << 10;

/// Statuses that send a caller elsewhere.
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

impl Lowering<'_> {
    /// What a route answers itself; `None`: its calls go somewhere.
    pub(super) fn response(
        &mut self,
        at: At<'_>,
        route: &file::Route,
        carries: Carries,
    ) -> Option<Arc<Response>> {
        let key = match (&route.respond, &route.redirect) {
            (None, None) => return None,
            (Some(_), None) => "respond",
            (_, Some(_)) => "redirect",
        };
        if carries != Carries::Http {
            self.only_http(at, key);
        }
        let sends = [
            ("respond", route.respond.is_some() && key != "respond"),
            ("to", route.to.is_some()),
            ("to_header", route.to_header.is_some()),
            ("weights", !route.weights.is_empty()),
            ("subset", !route.subset.is_empty()),
            ("subset_fallback", route.subset_fallback),
            ("timeout", route.timeout.is_some()),
            ("idempotent", route.idempotent),
            ("retry", route.retry.is_some()),
            ("request", route.request.is_some()),
            ("response", route.response.is_some()),
            ("rewrite", route.rewrite.is_some()),
        ];
        for (other, _) in sends.iter().filter(|(_, written)| *written) {
            let problem = at.key(other).problem(format!("a route with `{key}` answers itself"));
            self.problems.push(problem.with_help(match *other {
                "response" => "write headers below `respond: { headers: … }`",
                _ => "leave one of the two out",
            }));
        }
        let response = match (&route.respond, &route.redirect) {
            (_, Some(redirect)) => self.redirect(at.key("redirect"), redirect),
            (Some(respond), None) => self.respond(at.key("respond"), respond),
            (None, None) => return None,
        };
        Some(Arc::new(response))
    }

    fn respond(&mut self, at: At<'_>, respond: &written::Respond) -> Response {
        let written::Respond { status, body, headers } = respond;
        if !(200..=599).contains(status) {
            self.problems.push(at.key("status").problem("expected a status from 200 to 599"));
        }
        if REDIRECTS.contains(status) {
            let problem = at.key("status").problem("a caller is not told here where to go");
            self.problems.push(problem.with_help("write `redirect: { status: …, path: … }`"));
        }
        if !body.is_empty() && matches!(status, 204 | 205 | 304) {
            self.problems.push(at.key("body").problem("an answer of this status has no body"));
        }
        if body.len() > BODY_MAX {
            self.problems.push(at.key("body").problem("longer than 4 KiB"));
        }
        let mut lines: Vec<Line> = headers
            .iter()
            .map(|(name, value)| {
                self.header(at.key("headers").key(name), name, value);
                Line::new(name, value)
            })
            .collect();
        if !body.is_empty() && !lines.iter().any(|line| &*line.lower == b"content-type") {
            lines.insert(0, Line::new("content-type", "text/plain; charset=utf-8"));
        }
        Response { status: *status, headers: lines, body: body.as_bytes().into(), redirect: None }
    }

    fn redirect(&mut self, at: At<'_>, redirect: &written::Redirect) -> Response {
        let written::Redirect { status, scheme, authority, path, strip_prefix, add_prefix, drop_query } =
            redirect;
        if !REDIRECTS.contains(status) {
            self.problems.push(at.key("status").problem("expected 301, 302, 303, 307 or 308"));
        }
        if scheme.as_deref().is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
            self.problems.push(at.key("scheme").problem("expected `http` or `https`"));
        }
        let place = Rewrite {
            path: path.clone(),
            strip_prefix: strip_prefix.clone(),
            add_prefix: add_prefix.clone(),
            authority: authority.clone(),
        };
        if scheme.is_none() && place.is_none() {
            // A caller that is sent to where it came from comes again.
            let problem = at.problem("this leads nowhere else");
            self.problems.push(problem.with_help("as in { scheme: https } or { strip_prefix: /old }"));
        }
        let (path, authority) = self.place(at, &place);
        Response {
            status: *status,
            headers: Vec::new(),
            body: Box::default(),
            redirect: Some(Redirect {
                scheme: scheme.as_deref().map(Into::into),
                authority,
                path,
                drops_query: *drop_query,
            }),
        }
    }
}
