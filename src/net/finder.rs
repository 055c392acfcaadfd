//! Where a server is, found anew for each dial and off the loops: asking a name server, or a disk, may take its time.
//!
//! A [`Finder`] is a host's, for one server. Each loop has an [`Asker`] of it, asks at each dial, and is woken once there is
//! an answer. All that ask while somebody finds share what is found, so that there is one thread at most, however often and by
//! however many it is asked while a name server says nothing; the thread ends with its answer. An asker that has given up by
//! then finds the answer at its next dial.

use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
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
}

struct Asked<A> {
    is_running: bool,
    /// Who is to be told; each once.
    waiting: Vec<Arc<Mailbox<A>>>,
}

struct Mailbox<A> {
    found: Mutex<Option<(Instant, A)>>,
    told: Condvar,
    wake: Box<dyn Fn() + Send + Sync>,
}

/// One that asks a [`Finder`].
pub struct Asker<A>(AskerKind<A>);

enum AskerKind<A> {
    Known { answer: A, is_asked: bool },
    Found { search: Arc<Search<A>>, mailbox: Arc<Mailbox<A>> },
}

impl<A: Clone + Send + 'static> Finder<A> {
    /// Finds by `find`, on threads of its own.
    pub fn new(find: impl Fn() -> A + Send + Sync + 'static) -> Finder<A> {
        let asked = Mutex::new(Asked { is_running: false, waiting: Vec::new() });
        Finder(FinderKind::Found(Arc::new(Search { find: Box::new(find), asked })))
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
                let (found, told) = (Mutex::default(), Condvar::new());
                let mailbox = Arc::new(Mailbox { found, told, wake: Box::new(wake) });
                Asker(AskerKind::Found { search: Arc::clone(search), mailbox })
            }
        }
    }
}

impl<A: Clone + Send + 'static> Asker<A> {
    /// One that is answered this, at once.
    pub fn known(answer: A) -> Asker<A> {
        Asker(AskerKind::Known { answer, is_asked: false })
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
            AskerKind::Found { search, mailbox } => {
                let mut found = lock(&mailbox.found);
                if found.as_ref().is_some_and(|(at, _)| at.elapsed() <= KEPT) {
                    return Ok(());
                }
                *found = None;
                drop(found);
                search.ask(mailbox)
            }
        }
    }

    /// The answer, once, if there is one.
    pub fn poll(&mut self) -> Option<A> {
        match &mut self.0 {
            AskerKind::Known { answer, is_asked } => std::mem::take(is_asked).then(|| answer.clone()),
            AskerKind::Found { mailbox, .. } => lock(&mailbox.found).take().map(|(_, answer)| answer),
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
        let mut asked = lock(&self.asked);
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
        let answer = (self.find)();
        let waiting = {
            let mut asked = lock(&self.asked);
            asked.is_running = false;
            std::mem::take(&mut asked.waiting)
        };
        for mailbox in waiting {
            *lock(&mailbox.found) = Some((Instant::now(), answer.clone()));
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
        let long_ago = Instant::now().checked_sub(KEPT + Duration::from_millis(1)).unwrap();
        *lock(&mailbox.found) = Some((long_ago, 5));
        asker.ask().unwrap();
        assert_eq!(asker.poll(), None);
        scene.answers.send(6).unwrap();
        assert_eq!(asker.wait(PATIENCE), Some(6));
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
