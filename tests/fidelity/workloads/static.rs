//! Linked statically: threads, channels, a server that is asked, a child process, files, a timer.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

fn main() {
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..8u64)
        .map(|n| {
            let sender = sender.clone();
            thread::spawn(move || sender.send(n * n).unwrap())
        })
        .collect();
    drop(sender);
    threads.into_iter().for_each(|t| t.join().unwrap());
    println!("threads {}", receiver.iter().sum::<u64>());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"served by a static binary").unwrap();
    });
    let mut answer = String::new();
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.read_to_string(&mut answer).unwrap();
    server.join().unwrap();
    println!("{answer}");

    let child = Command::new("cat").stdin(Stdio::null()).stdout(Stdio::piped()).output().unwrap();
    println!("child {:?} {}", child.status.code(), child.stdout.len());
    fs::create_dir("made").unwrap();
    fs::write("made/file", "text").unwrap();
    println!("file {}", fs::metadata("made/file").unwrap().len());
    fs::remove_dir_all("made").unwrap();
    thread::sleep(Duration::from_millis(1));
    println!("static done");
}
