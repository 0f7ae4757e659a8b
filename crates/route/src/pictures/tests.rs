use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::{PICTURE_BYTES_MAX, Pictures, is_public};

/// A server that gives each connection the next answer; its origin.
fn server(answers: Vec<String>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for answer in answers {
            let (mut socket, _) = listener.accept().unwrap();
            let mut asked = [0; 2048];
            let _ = socket.read(&mut asked).unwrap();
            // Whoever refuses an answer does not read it to its end.
            let _ = socket.write_all(answer.as_bytes());
        }
    });
    origin
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

fn fetch(origins: &[String], address: &str) -> Result<Vec<u8>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pictures = Pictures::new(origins).unwrap();
    runtime.block_on(pictures.fetch(address))
}

#[test]
fn private_addresses_are_known() {
    for private in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "203.0.113.9",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2001::1",
        "::7f00:1",
    ] {
        assert!(!is_public(private.parse().unwrap()), "{private}");
    }
    for public in ["1.1.1.1", "172.32.0.1", "100.128.0.1", "8.8.8.8", "192.0.1.1", "2606:4700::1111", "::ffff:8.8.8.8"]
    {
        assert!(is_public(public.parse().unwrap()), "{public}");
    }
}

#[test]
fn only_public_places_over_https_are_asked() {
    for (address, word) in [
        ("http://example.org/a.png", "only https"),
        ("ftp://example.org/a.png", "only https"),
        ("file:///etc/passwd", "only https"),
        ("https://127.0.0.1/a.png", "no public address"),
        ("https://[::1]/a.png", "no public address"),
        ("https://0x7f.1/a.png", "no public address"),
        ("https://2130706433/a.png", "no public address"),
        ("https://169.254.169.254/latest", "no public address"),
        ("https://localhost/a.png", "no public address"),
        ("https://me:secret@example.org/a.png", "a password"),
        ("nonsense", "no address"),
    ] {
        let refused = fetch(&[], address).unwrap_err();
        assert!(refused.contains(word), "{address}: {refused}");
    }
    let refused = Pictures::new(&["http://a.example/pictures".to_owned()]).err().unwrap();
    assert!(refused.contains("is no origin"), "{refused}");
}

#[test]
fn a_picture_comes_from_an_origin_that_was_let_in() {
    let origin = server(vec![
        answer("302 Found\r\nlocation: /b.png", ""),
        answer("200 OK\r\ncontent-type: image/png", "the file"),
    ]);
    assert_eq!(fetch(std::slice::from_ref(&origin), &format!("{origin}/a.png")).unwrap(), b"the file");
    let other = server(vec![]);
    let refused = fetch(&[other], &format!("{origin}/a.png")).unwrap_err();
    assert!(refused.contains("only https"), "another port is another origin: {refused}");
}

#[test]
fn what_is_no_picture_or_leads_astray_is_refused() {
    let length = PICTURE_BYTES_MAX + 1;
    let huge = format!("HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: {length}\r\n\r\n");
    let astray = "302 Found\r\nlocation: https://10.0.0.1/secret";
    for (answers, word) in [
        (vec![answer("200 OK\r\ncontent-type: text/html", "<p>")], "no picture"),
        (vec![answer("200 OK", "bytes")], "no picture"),
        (vec![answer("404 Not Found", "")], "404"),
        (vec![huge], "more than"),
        (vec![answer(astray, "")], "10.0.0.1 is no public address"),
        (vec![answer("302 Found\r\nlocation: file:///etc/passwd", "")], "only https"),
        (vec![answer("302 Found", "")], "without a place"),
        (vec![answer("302 Found\r\nlocation: /again", ""); 4], "more than 3 times"),
    ] {
        let origin = server(answers);
        let refused = fetch(std::slice::from_ref(&origin), &format!("{origin}/a.png")).unwrap_err();
        assert!(refused.contains(word), "{word}: {refused}");
    }
}
