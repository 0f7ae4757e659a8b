//! A plane that can be cut: a TCP relay on loopback.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What happens to a plane when it has carried so many bytes.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    Lives,
    /// Every connection ends at once, and new ones do too.
    Dies(u64),
    /// Nothing passes any more, and nobody is told.
    FallsSilent(u64),
    /// One bit is turned.
    TurnsABit(u64),
}

impl Fate {
    /// How many bytes a plane has carried when it happens; a plane that lives carries one at least.
    pub(crate) fn at(self) -> u64 {
        match self {
            Self::Lives => 1,
            Self::Dies(at) | Self::FallsSilent(at) | Self::TurnsABit(at) => at,
        }
    }
}

pub(crate) struct Plane {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    target: Mutex<SocketAddr>,
    /// Nothing passes before that plane has carried so many bytes.
    after: Option<(Arc<Inner>, u64)>,
    fate: Mutex<Fate>,
    carried: AtomicU64,
    sockets: Mutex<Vec<TcpStream>>,
}

impl Plane {
    pub(crate) fn to(target: SocketAddr, fate: Fate) -> Self {
        Self::with(target, fate, None)
    }

    /// A plane that lives, and carries nothing before `other` has carried `bytes`: so both carry something.
    pub(crate) fn after(other: &Self, bytes: u64, target: SocketAddr) -> Self {
        Self::with(target, Fate::Lives, Some((Arc::clone(&other.inner), bytes)))
    }

    fn with(target: SocketAddr, fate: Fate, after: Option<(Arc<Inner>, u64)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            target: Mutex::new(target),
            after,
            fate: Mutex::new(fate),
            carried: AtomicU64::new(0),
            sockets: Mutex::default(),
        });
        let accepting = Arc::clone(&inner);
        // Ends with the process: tests have nobody who could wait for it.
        std::thread::spawn(move || listener.incoming().flatten().for_each(|near| accepting.relay(near)));
        Self { address, inner }
    }

    pub(crate) fn carried(&self) -> u64 {
        self.inner.carried.load(Ordering::SeqCst)
    }

    /// Lives again, and leads somewhere else.
    pub(crate) fn revive(&self, target: SocketAddr) {
        *self.inner.target.lock().unwrap() = target;
        *self.inner.fate.lock().unwrap() = Fate::Lives;
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.inner.is_cut()
    }
}

/// Tells the ends of a silent plane at last, so that they need not wait.
impl Drop for Plane {
    fn drop(&mut self) {
        self.inner.cut();
    }
}

impl Inner {
    fn cut(&self) {
        let sockets = std::mem::take(&mut *self.sockets.lock().unwrap());
        sockets.iter().for_each(|socket| drop(socket.shutdown(Shutdown::Both)));
    }

    fn is_cut(&self) -> bool {
        let carried = self.carried.load(Ordering::SeqCst);
        match *self.fate.lock().unwrap() {
            Fate::Dies(at) | Fate::FallsSilent(at) => carried >= at,
            Fate::Lives | Fate::TurnsABit(_) => false,
        }
    }

    fn relay(self: &Arc<Self>, near: TcpStream) {
        let target = *self.target.lock().unwrap();
        if self.is_cut() && matches!(*self.fate.lock().unwrap(), Fate::Dies(_)) {
            return;
        }
        let Ok(far) = TcpStream::connect(target) else { return };
        near.set_nodelay(true).and_then(|()| far.set_nodelay(true)).unwrap();
        let clone = |socket: &TcpStream| socket.try_clone().unwrap();
        self.sockets.lock().unwrap().extend([clone(&near), clone(&far)]);
        for (from, to, counts) in [(clone(&near), clone(&far), true), (far, near, false)] {
            let inner = Arc::clone(self);
            std::thread::spawn(move || inner.pump(from, to, counts));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, counts: bool) {
        let mut bytes = vec![0; 16 << 10];
        while self.after.as_ref().is_some_and(|(other, bytes)| other.carried.load(Ordering::SeqCst) < *bytes) {
            std::thread::sleep(Duration::from_millis(1));
        }
        loop {
            let count = from.read(&mut bytes).unwrap_or(0);
            if counts {
                self.carried.fetch_add(count as u64, Ordering::SeqCst);
            }
            if self.is_cut() {
                if matches!(*self.fate.lock().unwrap(), Fate::Dies(_)) {
                    self.cut();
                }
                // A silent plane keeps its sockets, so neither end is told.
                return;
            }
            if counts {
                let mut fate = self.fate.lock().unwrap();
                if matches!(*fate, Fate::TurnsABit(at) if self.carried.load(Ordering::SeqCst) >= at) && count > 0 {
                    bytes[count / 2] ^= 0x10;
                    *fate = Fate::Lives;
                }
            }
            if count == 0 || to.write_all(&bytes[..count]).is_err() {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
