//! Who gets which secret.

use boxlite_images::{Credentials, Status};

use super::super::support::{quick_store, temp_dir};
use super::content::Content;
use super::server::{Answer, Server};
use super::{Bench, options_for};

/// A registry that wants a token, and who gets which secret.
#[test]
fn tokens_and_passwords_go_where_they_belong() {
    let storage_for = Content::new();
    let served = storage_for.clone();
    let server = Server::new(move |asked, _| {
        if asked.path.starts_with("/token?") {
            assert!(asked.path.contains("scope=repository%3Alibrary%2Fapp%3Apull"), "{asked:?}");
            return match asked.header("authorization") {
                // me:secret
                Some("Basic bWU6c2VjcmV0") => Answer::new(200, r#"{"token":"abc"}"#),
                None => Answer::new(200, r#"{"access_token":"anonymous"}"#),
                Some(_) => Answer::new(401, ""),
            };
        }
        if asked.header("authorization") != Some("Bearer abc") {
            let host = asked.header("host").unwrap();
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
            return Answer::new(401, "").header("www-authenticate", challenge);
        }
        served.answer(asked)
    });
    let reference = format!("{}/library/app", server.host());
    for (user, password, status) in
        [("me", "secret", None), ("me", "wrong", Some(Status::Unauthorized)), ("", "", Some(Status::Unauthorized))]
    {
        let dir = temp_dir();
        let storage = quick_store(dir.path());
        let mut options = options_for(&server);
        options.credentials = (!user.is_empty()).then(|| Credentials::new(user, password));
        let result = storage.pull(&reference, &options);
        if let Err(error) = &result {
            assert!(!error.message().contains(password) || password.is_empty(), "{error}");
        }
        assert_eq!(result.err().map(|error| error.status()), status, "{user}:{password}");
    }
}

/// A blob's bytes may come from elsewhere; what opens the registry does not go there.
#[test]
fn secrets_do_not_follow_a_redirect() {
    let content = Content::new();
    let blobs = content.clone();
    let elsewhere = Server::new(move |asked, _| blobs.answer(&asked.clone()));
    let (there, served) = (elsewhere.host(), content.clone());
    let server = Server::new(move |asked, _| {
        if asked.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\"");
        }
        if asked.path.contains("/blobs/") {
            return Answer::new(307, "").header("location", format!("http://{there}{}", asked.path));
        }
        served.answer(asked)
    });
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let mut options = options_for(&server);
    options.credentials = Some(Credentials::new("me", "secret"));
    storage.pull(&format!("{}/library/app", server.host()), &options).unwrap();
    assert_eq!(elsewhere.asked().len(), 4);
    for asked in elsewhere.asked() {
        assert_eq!(asked.header("authorization"), None, "{asked:?}");
    }
}

/// A registry that is reached over the network may not have us ask inside it.
#[test]
fn a_token_server_inside_is_not_believed() {
    for realm in ["http://169.254.169.254/token", "http://[::1]:1/token", "http://10.0.0.1/t", "ftp://x/", "nonsense"] {
        let bench = Bench::new(move |_, _, _| {
            Answer::new(401, "").header("www-authenticate", format!("Bearer realm=\"{realm}\""))
        });
        let error = bench.pull().expect_err(realm);
        assert_eq!(error.status(), Status::Registry, "{realm}: {error}");
    }
}
