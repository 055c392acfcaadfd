//! Where a server is, found anew for each dial and off the loops: asking a name server, or a disk, may take its time.
//!
//! A [`Finder`] is a host's, for one server. Each loop has an [`Asker`] of it, asks at each dial, and is woken once there is
//! an answer. All that ask while somebody finds share what is found, so that there is one thread at most, however often and by
//! however many it is asked while a name server says nothing; the thread ends with its answer. An asker that has given up by
//! then finds the answer at its next dial.
//!
//! Where somebody watches which server it is ([`Moves`]), each asker is woken as well once its answer holds no more.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

/// How long an answer that came too late is good for the next dial: those of a loop are half a second apart at most.
const KEPT: Duration = Duration::from_secs(2);

/// See the [module](self).
pub struct Finder<A>(FinderKind<A>);

enum FinderKind<A> {
    /// Nothing is to be found.
    Known(A),
    Found(Arc<Search<A>>),
}

struct Search<A> {
    find: Box<dyn Fn() -> A + Send + Sync>,
    asked: Mutex<Asked<A>>,
    moves: Moves,
}

/// How often the server has become another one, told to all who were answered before.
#[derive(Clone, Default)]
pub struct Moves(Arc<MovesKnown>);

#[derive(Default)]
struct MovesKnown {
    count: AtomicU64,
    listeners: Mutex<Vec<Weak<Wake>>>,
}

type Wake = dyn Fn() + Send + Sync;

struct Asked<A> {
    is_running: bool,
    /// Who is to be told; each once.
    waiting: Vec<Arc<Mailbox<A>>>,
}

struct Mailbox<A> {
    found: Mutex<Option<Letter<A>>>,
    told: Condvar,
    wake: Arc<Wake>,
}

/// An answer, and what it is good for.
struct Letter<A> {
    written_at: Instant,
    /// How many moves it knows of.
    moves: u64,
    answer: A,
}

/// One that asks a [`Finder`].
pub struct Asker<A>(AskerKind<A>);

enum AskerKind<A> {
    Known {
        answer: A,
        is_asked: bool,
        moves: Moves,
        /// The moves that it knows of.
        known: u64,
    },
    Found {
        search: Arc<Search<A>>,
        mailbox: Arc<Mailbox<A>>,
        /// The moves that it knows of: those before its last answer, and those that it was told of.
        moves: u64,
    },
}

impl Moves {
    /// The server is another one from now on.
    pub fn tell(&self) {
        self.0.count.fetch_add(1, Ordering::SeqCst);
        let listeners = lock(&self.0.listeners).clone();
        listeners.iter().filter_map(Weak::upgrade).for_each(|wake| wake());
    }

    fn count(&self) -> u64 {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Whether there were more; that many are known from now on.
    fn are_more_than(&self, known: &mut u64) -> bool {
        let count = self.count();
        std::mem::replace(known, count) != count
    }

    fn listen(&self, wake: &Arc<Wake>) {
        let mut listeners = lock(&self.0.listeners);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(wake));
    }
}

impl<A: Clone + Send + 'static> Finder<A> {
    /// Finds by `find`, on threads of its own.
    pub fn new(find: impl Fn() -> A + Send + Sync + 'static) -> Finder<A> {
        Finder::of_what_moves(Moves::default(), find)
    }

    /// The same, for a server that becomes another one when the `moves` say so.
    pub fn of_what_moves(moves: Moves, find: impl Fn() -> A + Send + Sync + 'static) -> Finder<A> {
        let asked = Mutex::new(Asked { is_running: false, waiting: Vec::new() });
        Finder(FinderKind::Found(Arc::new(Search { find: Box::new(find), asked, moves })))
    }

    /// Answers this, at once.
    pub fn known(answer: A) -> Finder<A> {
        Finder(FinderKind::Known(answer))
    }

    /// One that asks, and is to be woken like that when there is an answer: from another thread.
    pub fn asker(&self, wake: impl Fn() + Send + Sync + 'static) -> Asker<A> {
        match &self.0 {
            FinderKind::Known(answer) => Asker::known(answer.clone()),
            FinderKind::Found(search) => {
                let (found, told, wake): (_, _, Arc<Wake>) =
                    (Mutex::default(), Condvar::new(), Arc::new(wake));
                search.moves.listen(&wake);
                let (mailbox, moves) = (Arc::new(Mailbox { found, told, wake }), search.moves.count());
                Asker(AskerKind::Found { search: Arc::clone(search), mailbox, moves })
            }
        }
    }
}

impl<A: Clone + Send + 'static> Asker<A> {
    /// One that is answered this, at once.
    pub fn known(answer: A) -> Asker<A> {
        Asker::known_as_it_moves(Moves::default(), answer)
    }

    /// The same, told of moves like one that asks a [`Finder::of_what_moves`]; the answer stays what it is. For a system without
    /// threads, where whoever tells the moves also wakes the asker.
    pub fn known_as_it_moves(moves: Moves, answer: A) -> Asker<A> {
        let known = moves.count();
        Asker(AskerKind::Known { answer, is_asked: false, moves, known })
    }

    /// Asks. Does not wait.
    ///
    /// # Errors
    /// If the system has no thread for it.
    pub fn ask(&mut self) -> io::Result<()> {
        match &mut self.0 {
            AskerKind::Known { is_asked, .. } => {
                *is_asked = true;
                Ok(())
            }
            AskerKind::Found { search, mailbox, .. } => search.ask(mailbox),
        }
    }

    /// The answer, once, if there is one.
    pub fn poll(&mut self) -> Option<A> {
        match &mut self.0 {
            AskerKind::Known { answer, is_asked, .. } => std::mem::take(is_asked).then(|| answer.clone()),
            AskerKind::Found { mailbox, moves, .. } => {
                let letter = lock(&mailbox.found).take()?;
                *moves = letter.moves;
                Some(letter.answer)
            }
        }
    }

    /// Whether the server has become another one since the last answer; said once.
    pub fn poll_move(&mut self) -> bool {
        match &mut self.0 {
            AskerKind::Known { moves, known, .. } => moves.are_more_than(known),
            AskerKind::Found { search, moves, .. } => search.moves.are_more_than(moves),
        }
    }

    /// Waits for the answer, for whoever may wait.
    pub fn wait(&mut self, patience: Duration) -> Option<A> {
        if let AskerKind::Found { mailbox, .. } = &self.0 {
            let found = lock(&mailbox.found);
            drop(mailbox.told.wait_timeout_while(found, patience, |found| found.is_none()));
        }
        self.poll()
    }
}

impl<A: Clone + Send + 'static> Search<A> {
    fn ask(self: &Arc<Search<A>>, mailbox: &Arc<Mailbox<A>>) -> io::Result<()> {
        // Before the mailbox: an answer is in it by the time that nobody finds any more.
        let mut asked = lock(&self.asked);
        let mut found = lock(&mailbox.found);
        let is_good =
            |letter: &Letter<A>| letter.written_at.elapsed() <= KEPT && letter.moves == self.moves.count();
        if found.as_ref().is_some_and(is_good) {
            return Ok(());
        }
        *found = None;
        if !asked.is_running {
            let search = Arc::clone(self);
            std::thread::Builder::new().name("finder".to_owned()).spawn(move || search.run())?;
            asked.is_running = true;
        }
        if !asked.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, mailbox)) {
            asked.waiting.push(Arc::clone(mailbox));
        }
        Ok(())
    }

    fn run(&self) {
        let (moves, answer) = loop {
            let moves = self.moves.count();
            let answer = (self.find)();
            // Servers do not move so often that this has no end.
            if moves == self.moves.count() {
                break (moves, answer);
            }
        };
        let mut asked = lock(&self.asked);
        asked.is_running = false;
        for mailbox in asked.waiting.drain(..) {
            let letter = Letter { written_at: Instant::now(), moves, answer: answer.clone() };
            *lock(&mailbox.found) = Some(letter);
            mailbox.told.notify_all();
            (mailbox.wake)();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<A> fmt::Debug for Finder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Finder")
    }
}

impl fmt::Debug for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Moves({})", self.count())
    }
}

impl<A> fmt::Debug for Asker<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asker")
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// For what threads do by themselves.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A finder that answers what is sent to it, how often it looked, and whom it woke.
    struct Scene {
        finder: Finder<u32>,
        answers: mpsc::Sender<u32>,
        looks: Arc<AtomicUsize>,
        woken: mpsc::Receiver<usize>,
        wakes: mpsc::Sender<usize>,
    }

    impl Scene {
        fn new() -> Scene {
            let (answers, to_give) = mpsc::channel();
            let (to_give, looks) = (Mutex::new(to_give), Arc::new(AtomicUsize::new(0)));
            let (wakes, woken) = mpsc::channel();
            let counted = Arc::clone(&looks);
            let finder = Finder::new(move || {
                counted.fetch_add(1, Ordering::SeqCst);
                lock(&to_give).recv_timeout(PATIENCE).expect("the test answers")
            });
            Scene { finder, answers, looks, woken, wakes }
        }

        fn asker(&self, number: usize) -> Asker<u32> {
            let wakes = self.wakes.clone();
            self.finder.asker(move || wakes.send(number).expect("the test listens"))
        }

        fn looks(&self) -> usize {
            self.looks.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn whoever_asks_is_woken_and_has_the_answer_once() {
        let scene = Scene::new();
        let mut asker = scene.asker(7);
        asker.ask().unwrap();
        assert_eq!(asker.poll(), None, "it does not wait");
        scene.answers.send(1).unwrap();
        assert_eq!(scene.woken.recv_timeout(PATIENCE), Ok(7));
        assert_eq!((asker.poll(), asker.poll()), (Some(1), None));
        // It is another by now.
        asker.ask().unwrap();
        scene.answers.send(2).unwrap();
        assert_eq!(asker.wait(PATIENCE), Some(2));
        assert_eq!(scene.looks(), 2);
    }

    /// A name server that says nothing: every dial of every loop asks, for minutes.
    #[test]
    fn there_is_one_look_up_however_many_ask_while_it_hangs() {
        let scene = Scene::new();
        let mut askers: Vec<_> = (0..4).map(|number| scene.asker(number)).collect();
        for _ in 0..1_000 {
            for asker in &mut askers {
                asker.ask().unwrap();
                assert_eq!(asker.poll(), None);
            }
        }
        scene.answers.send(3).unwrap();
        let mut woken: Vec<_> = (0..4).map(|_| scene.woken.recv_timeout(PATIENCE).unwrap()).collect();
        woken.sort_unstable();
        assert_eq!(woken, [0, 1, 2, 3], "each of them once");
        assert!(askers.iter_mut().all(|asker| asker.poll() == Some(3)));
        assert_eq!(scene.looks(), 1);
    }

    #[test]
    fn an_answer_that_came_too_late_is_that_of_the_next_dial() {
        let scene = Scene::new();
        let mut asker = scene.asker(0);
        asker.ask().unwrap();
        assert_eq!(asker.wait(Duration::from_millis(1)), None, "it gives up");
        scene.answers.send(4).unwrap();
        scene.woken.recv_timeout(PATIENCE).unwrap();
        asker.ask().unwrap();
        assert_eq!((asker.poll(), scene.looks()), (Some(4), 1));
        // Not one of long ago.
        let AskerKind::Found { mailbox, .. } = &asker.0 else { panic!("it is to be found") };
        let written_at = Instant::now().checked_sub(KEPT + Duration::from_millis(1)).unwrap();
        *lock(&mailbox.found) = Some(Letter { written_at, moves: 0, answer: 5 });
        asker.ask().unwrap();
        assert_eq!(asker.poll(), None);
        scene.answers.send(6).unwrap();
        assert_eq!(asker.wait(PATIENCE), Some(6));
    }

    #[test]
    fn whoever_was_answered_is_told_once_that_the_server_is_another() {
        let moves = Moves::default();
        let place = Arc::new(Mutex::new(1));
        let found = Arc::clone(&place);
        let finder = Finder::of_what_moves(moves.clone(), move || *lock(&found));
        let (wakes, woken) = mpsc::channel();
        let mut asker = finder.asker(move || wakes.send(()).expect("the test listens"));
        asker.ask().unwrap();
        assert_eq!(asker.wait(PATIENCE), Some(1));
        woken.recv_timeout(PATIENCE).unwrap();
        assert!(!asker.poll_move());
        // An answer that nobody has taken is not that of the next dial.
        asker.ask().unwrap();
        woken.recv_timeout(PATIENCE).unwrap();
        *lock(&place) = 2;
        moves.tell();
        woken.recv_timeout(PATIENCE).unwrap();
        assert_eq!((asker.poll_move(), asker.poll_move()), (true, false));
        asker.ask().unwrap();
        assert_eq!(asker.wait(PATIENCE), Some(2));
        woken.recv_timeout(PATIENCE).unwrap();
        assert!(!asker.poll_move());
        drop(asker);
        let until = Instant::now() + PATIENCE;
        while lock(&moves.0.listeners).iter().any(|listener| listener.strong_count() > 0) {
            assert!(Instant::now() < until, "nobody is left to listen");
            std::thread::yield_now();
        }
        moves.tell();
        assert!(woken.try_recv().is_err());
        assert!(!Finder::known(8).asker(|| ()).poll_move());
    }

    /// The move comes while the server is looked for: what was found is of before.
    #[test]
    fn what_moves_while_it_is_looked_for_is_looked_for_again() {
        let moves = Moves::default();
        let (moving, looks) = (moves.clone(), AtomicUsize::new(0));
        let finder = Finder::of_what_moves(moves, move || {
            let look = looks.fetch_add(1, Ordering::SeqCst);
            if look == 0 {
                moving.tell();
            }
            look
        });
        let mut asker = finder.asker(|| ());
        asker.ask().unwrap();
        assert_eq!(asker.wait(PATIENCE), Some(1));
        assert!(!asker.poll_move());
    }

    #[test]
    fn what_is_known_is_answered_at_once() {
        let mut asker = Finder::known(8).asker(|| panic!("nobody waits"));
        assert_eq!(asker.poll(), None, "it was not asked");
        asker.ask().unwrap();
        assert_eq!((asker.poll(), asker.poll()), (Some(8), None));
        asker.ask().unwrap();
        assert_eq!(asker.wait(Duration::ZERO), Some(8));
    }
}
