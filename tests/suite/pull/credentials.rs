//! Who gets which secret.

use boxlite_images::{Credentials, CredentialsCallback, Status};

use super::super::blimg::{Tool, status_in};
use super::super::support::{quick_store, side_by_side, temp_dir};
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

/// Who sends us away does not get us back with our secrets: what it sends us back to was chosen elsewhere.
#[test]
fn secrets_do_not_come_back_from_a_redirect() {
    let content = Content::new();
    let elsewhere = Server::new(|asked, _| {
        let (_, back) = asked.path.split_once("?back=").unwrap();
        Answer::new(302, "").header("location", format!("{back}/chosen{}", asked.path.split('?').next().unwrap()))
    });
    let there = elsewhere.host();
    let server = Server::new(move |asked, _| {
        if let Some(path) = asked.path.strip_prefix("/chosen") {
            let mut asked = asked.clone();
            asked.path = path.to_owned();
            return content.answer(&asked);
        }
        if asked.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\"");
        }
        if asked.path.contains("/blobs/") {
            let back = format!("http://{}", asked.header("host").unwrap());
            return Answer::new(307, "").header("location", format!("http://{there}{}?back={back}", asked.path));
        }
        content.answer(asked)
    });
    let dir = temp_dir();
    let mut options = options_for(&server);
    options.registries[0].headers = vec![("X-Key".into(), "key-of-the-registry".into())];
    options.credentials = Some(Credentials::new("me", "secret"));
    quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options).unwrap();
    assert_eq!((elsewhere.asked().len(), server.count("/chosen")), (4, 4));
    for asked in server.asked().iter().filter(|asked| asked.path.starts_with("/chosen")).chain(&elsewhere.asked()) {
        assert_eq!((asked.header("authorization"), asked.header("x-key")), (None, None), "{asked:?}");
    }
}

/// Several challenges, in one header or in more: a token goes before a password, and what we do not know is passed over.
#[test]
fn one_of_several_challenges_is_met() {
    for (headers, is_token) in [
        (&["Basic realm=\"x, Bearer\", Bearer realm=\"REALM\",service=\"s\""][..], true),
        (&["Negotiate, Bearer realm=\"REALM\", error=\"x\", Basic realm=\"y\""], true),
        (&["Basic realm=\"x\"", "Bearer realm=\"REALM\""], true),
        (&["Digest realm=\"x\", nonce=\"Bearer realm=y\", Basic realm=\"x\""], false),
    ] {
        let content = Content::new();
        let server = Server::new(move |asked, _| {
            let is_right = asked.header("authorization") == Some("Basic bWU6c2VjcmV0");
            if asked.path.starts_with("/token?") {
                return if is_right { Answer::new(200, r#"{"token":"abc"}"#) } else { Answer::new(401, "") };
            }
            if if is_token { asked.header("authorization") == Some("Bearer abc") } else { is_right } {
                return content.answer(asked);
            }
            let realm = format!("http://{}/token", asked.header("host").unwrap());
            let add = |answer: Answer, text: &&str| answer.header("www-authenticate", text.replace("REALM", &realm));
            headers.iter().fold(Answer::new(401, ""), add)
        });
        let dir = temp_dir();
        let mut options = options_for(&server);
        options.credentials = Some(Credentials::new("me", "secret"));
        let result = quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options);
        assert!(result.is_ok(), "{headers:?}: {result:?}");
        assert_eq!(server.count("/token") > 0, is_token, "{headers:?}");
    }
}

/// A registry that is reached over the network may not have us ask inside it.
#[test]
fn a_token_server_inside_is_not_believed() {
    for realm in [
        "http://169.254.169.254/token",
        "http://[fe80::1]/token",
        "http://10.0.0.1/t",
        "http://[fd00::1]/t",
        "http://[::ffff:192.168.1.1]/t",
        "http://user@127.0.0.1/t",
        "ftp://x/",
        "nonsense",
        "",
    ] {
        let bench = Bench::new(move |_, _, _| {
            Answer::new(401, "").header("www-authenticate", format!("Bearer realm=\"{realm}\""))
        });
        let error = bench.pull().expect_err(realm);
        assert_eq!(error.status(), Status::Registry, "{realm}: {error}");
    }
}

/// Three origins, a registry that sends us to the other two, and what each of them hears. No secret
/// goes anywhere but to the registry and its token server.
#[test]
fn three_origins_and_a_tap() {
    let content = Content::new();
    let served = content.clone();
    let storage_host = Server::new(move |asked, _| served.answer(asked));
    let token_host = Server::new(|asked, _| match asked.header("authorization") {
        Some("Basic bWU6c2VjcmV0") => Answer::new(200, r#"{"token":"abc"}"#),
        _ => Answer::new(401, ""),
    });
    let (there, realm, served) = (storage_host.host(), token_host.host(), content.clone());
    let server = Server::new(move |asked, _| {
        if asked.header("authorization") != Some("Bearer abc") {
            let challenge = format!("Bearer realm=\"http://{realm}/token\",service=\"x\"");
            return Answer::new(401, "").header("www-authenticate", challenge);
        }
        if asked.path.contains("/blobs/") {
            return Answer::new(307, "").header("location", format!("http://{there}{}", asked.path));
        }
        served.answer(asked)
    });
    let dir = temp_dir();
    let storage = quick_store(dir.path());
    let mut options = options_for(&server);
    options.registries[0].headers = vec![("X-Key".into(), "key-of-the-registry".into())];
    options.credentials = Some(Credentials::new("me", "secret"));
    storage.pull(&format!("{}/library/app", server.host()), &options).unwrap();
    let tapped = |server: &Server| server.asked().iter().map(|asked| format!("{asked:?}")).collect::<String>();
    // The password goes to the token server, its token and our key to the registry, nothing to anybody else.
    for (name, server, may_have) in [
        ("registry", &server, &["Bearer abc", "key-of-the-registry"][..]),
        ("token server", &token_host, &["bWU6c2VjcmV0"]),
        ("storage", &storage_host, &[]),
    ] {
        let tap = tapped(server);
        assert!(!tap.is_empty());
        for secret in ["secret", "bWU6c2VjcmV0", "Bearer abc", "key-of-the-registry"] {
            assert_eq!(tap.contains(secret), may_have.contains(&secret), "{name} and {secret}: {tap}");
        }
    }
}

/// A token that ran out in the middle is replaced once; one that never helps is not asked for again and again.
#[test]
fn a_token_is_renewed_and_never_in_a_loop() {
    let content = Content::new();
    let served = content.clone();
    let server = Server::new(move |asked, before| {
        if asked.path.starts_with("/token") {
            return Answer::new(200, format!(r#"{{"token":"t{before}"}}"#));
        }
        let host = asked.header("host").unwrap().to_owned();
        let challenge = || {
            let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
            Answer::new(401, "").header("www-authenticate", challenge)
        };
        // The first token is good for documents, the second for blobs.
        let wanted = if asked.path.contains("/blobs/") { "Bearer t1" } else { "Bearer t0" };
        if asked.header("authorization") == Some(wanted) { served.answer(asked) } else { challenge() }
    });
    let dir = temp_dir();
    let mut options = options_for(&server);
    options.parallel = Some(1);
    quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options).unwrap();
    assert_eq!(server.count("/token"), 2);

    let server = Server::new(|asked, _| {
        if asked.path.starts_with("/token") {
            return Answer::new(200, r#"{"token":"t"}"#);
        }
        let challenge = format!("Bearer realm=\"http://{}/token\"", asked.header("host").unwrap());
        Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"never"}]}"#)
            .header("www-authenticate", challenge)
    });
    let reference = format!("{}/library/app", server.host());
    let error = quick_store(dir.path()).pull(&reference, &options_for(&server)).unwrap_err();
    assert_eq!((error.status(), error.registry_code()), (Status::Unauthorized, Some("UNAUTHORIZED")), "{error}");
    assert_eq!((server.count("/token"), server.asked().len()), (1, 3));
    assert!(error.message().contains("no credentials were given"), "{error}");
}

/// What token servers answer that is no token.
#[test]
fn token_servers_that_misbehave() {
    type Misbehaviour = fn(&super::server::Asked, usize) -> Answer;
    let cases: [(&str, Status, Misbehaviour); 9] = [
        ("redirects", Status::Registry, |_, _| Answer::new(302, "").header("location", "/elsewhere")),
        ("no token", Status::Registry, |_, _| Answer::new(200, "{}")),
        ("no JSON", Status::Registry, |_, _| Answer::new(200, "<html>")),
        ("a token with a line break", Status::Registry, |_, _| Answer::new(200, r#"{"token":"a\r\nX: y"}"#)),
        ("one without an end", Status::Limit, |_, _| {
            Answer::new(200, vec![b' '; 65536]).ending(super::server::Ending::Endless)
        }),
        ("refuses", Status::Unauthorized, |_, _| Answer::new(403, "")),
        ("does not exist", Status::Registry, |_, _| Answer::new(404, "")),
        ("is never well", Status::Registry, |_, _| Answer::new(500, "")),
        ("is silent", Status::Timeout, |_, _| Answer::new(200, "{}").ending(super::server::Ending::SilentAt(0))),
    ];
    side_by_side(cases, |(what, status, answer)| {
        let server = Server::new(move |asked, before| {
            if asked.path.starts_with("/token") {
                return answer(asked, before);
            }
            let challenge = format!("Bearer realm=\"http://{}/token\"", asked.header("host").unwrap());
            Answer::new(401, "").header("www-authenticate", challenge)
        });
        let dir = temp_dir();
        let mut options = options_for(&server);
        options.stall_timeout = Some(std::time::Duration::from_millis(200));
        let error = quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options).expect_err(what);
        assert_eq!(error.status(), status, "{what}: {error}");
        assert_eq!(server.count("/elsewhere"), 0);
    });
}

/// An identity token is exchanged, and sent nowhere else.
#[test]
fn an_identity_token_is_exchanged() {
    let content = Content::new();
    let server = Server::new(move |asked, _| {
        if asked.path == "/token" {
            let form = String::from_utf8(asked.body.clone()).unwrap();
            let is_good = form.contains("grant_type=refresh_token") && form.contains("refresh_token=my%2Btoken");
            return if is_good { Answer::new(200, r#"{"access_token":"abc"}"#) } else { Answer::new(401, "") };
        }
        if asked.header("authorization") != Some("Bearer abc") {
            let challenge = format!("Bearer realm=\"http://{}/token\",service=\"x\"", asked.header("host").unwrap());
            return Answer::new(401, "").header("www-authenticate", challenge);
        }
        content.answer(asked)
    });
    let dir = temp_dir();
    let mut options = options_for(&server);
    options.credentials = Some(Credentials::new("<token>", "my+token"));
    quick_store(dir.path()).pull(&format!("{}/library/app", server.host()), &options).unwrap();
    for asked in server.asked().iter().filter(|asked| asked.path != "/token") {
        assert!(!format!("{asked:?}").contains("my+"), "{asked:?}");
    }
}

/// A registry that wants `me:secret`.
pub fn basic_registry() -> Server {
    let content = Content::new();
    Server::new(move |asked, _| {
        if asked.header("authorization") != Some("Basic bWU6c2VjcmV0") {
            return Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\"");
        }
        content.answer(asked)
    })
}

/// Who goes first: the call, the callback, the files; and what an error says of it.
#[test]
fn sources_of_credentials_in_their_order() {
    let server = basic_registry();
    let reference = format!("{}/library/app", server.host());
    let dir = temp_dir();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let entry = |auth: &str| format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, server.host());
    let empty = file("empty", "{}".to_owned());
    let (good, bad) = (file("good", entry("bWU6c2VjcmV0")), file("bad", entry("bWU6d3Jvbmc=")));
    let callback = |password: Option<&'static str>| {
        let host = server.host();
        CredentialsCallback::new(move |asked, repository| {
            assert_eq!((asked, repository), (host.as_str(), "library/app"));
            Ok(password.map(|password| Credentials::new("me", password)))
        })
    };
    let given = |password: &str| Some(Credentials::new("me", password));
    for (what, credentials, callback, file, expected) in [
        ("nothing", None, None, None, Err("no credentials were given")),
        ("the call", given("secret"), Some(callback(Some("wrong"))), Some(&bad), Ok(())),
        ("a wrong call", given("wrong"), Some(callback(Some("secret"))), Some(&good), Err("credentials of the call")),
        ("the callback", None, Some(callback(Some("secret"))), Some(&bad), Ok(())),
        ("a wrong callback", None, Some(callback(Some("wrong"))), Some(&good), Err("credentials of the callback")),
        ("the file", None, Some(callback(None)), Some(&good), Ok(())),
        ("a wrong file", None, None, Some(&bad), Err("/bad")),
        ("a file that has nothing", None, None, Some(&empty), Err("no credential file")),
    ] {
        let store = temp_dir();
        let mut options = options_for(&server);
        options.credentials = credentials;
        options.ask_credentials = callback;
        options.auth_file = file.cloned();
        let result = quick_store(store.path()).pull(&reference, &options);
        match (result, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err(part)) => {
                assert_eq!((error.status(), error.http_status()), (Status::Unauthorized, Some(401)), "{what}");
                assert!(error.message().contains(part), "{what}: {error}");
                assert!(!error.message().contains("secret") && !error.message().contains("wrong ("), "{error}");
            }
            (result, _) => panic!("{what}: {result:?}"),
        }
    }
    let mut options = options_for(&server);
    options.auth_file = Some(dir.path().join("none"));
    let error = quick_store(temp_dir().path()).pull(&reference, &options).unwrap_err();
    assert_eq!(error.status(), Status::InvalidArgument, "{error}");
    let mut options = options_for(&server);
    options.ask_credentials = Some(CredentialsCallback::new(|_, _| Err(())));
    let error = quick_store(temp_dir().path()).pull(&reference, &options).unwrap_err();
    assert_eq!(error.status(), Status::Callback);
}

/// Helpers: what they are asked, and what becomes of one that fails, hangs or says too much.
#[test]
fn credential_helpers() {
    let server = basic_registry();
    let reference = format!("{}/library/app", server.host());
    let dir = temp_dir();
    let helper = |name: &str, script: &str| {
        let path = dir.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    };
    let asked = dir.path().join("asked");
    let say = r#"echo '{"Username":"me","Secret":"secret"}'"#;
    helper("good", &format!("test \"$*\" = get || exit 3; cat >'{}'; {say}", asked.display()));
    helper("early", &format!("exec <&-; {say}"));
    helper("none", "cat >/dev/null; echo 'credentials not found in native keychain'; exit 1");
    helper("broken", "exit 1");
    helper("chatty", "yes secret");
    helper("odd", "echo secret");
    let Some(tool) = Tool::new() else { return };
    let file = dir.path().join("auth.json");
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    for (name, expected) in [
        ("good", None),
        ("early", None),
        ("none", Some("UNAUTHORIZED")),
        ("broken", Some("UNAUTHORIZED")),
        ("chatty", Some("UNAUTHORIZED")),
        ("odd", Some("UNAUTHORIZED")),
        ("missing", Some("UNAUTHORIZED")),
        ("../good", Some("UNAUTHORIZED")),
    ] {
        for text in [
            format!(r#"{{"credHelpers":{{"{}":"{name}"}},"credsStore":"missing"}}"#, server.host()),
            format!(r#"{{"credsStore":"{name}"}}"#),
        ] {
            std::fs::write(&file, &text).unwrap();
            let _ = std::fs::remove_dir_all(tool.store());
            let mut command = std::process::Command::new(tool.path("blimg"));
            command.arg("--store").arg(tool.store()).args(["--quiet", "pull", &reference, "--plain-http"]);
            command.arg(server.host()).arg("--authfile").arg(&file);
            let output = command.env("PATH", &path).output().unwrap();
            assert_eq!(output.status.success(), expected.is_none(), "{name} in {text}: {output:?}");
            if let Some(expected) = expected {
                assert_eq!(status_in(&output), expected, "{name} in {text}");
            }
            assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"), "{output:?}");
        }
    }
    assert_eq!(std::fs::read_to_string(asked).unwrap(), server.host());
    // Where they are switched off.
    std::fs::write(&file, r#"{"credsStore":"../good"}"#).unwrap();
    let mut options = options_for(&server);
    options.auth_file = Some(file);
    options.no_credential_helpers = true;
    let error = quick_store(temp_dir().path()).pull(&reference, &options).unwrap_err();
    assert_eq!(error.status(), Status::Unauthorized);
}
