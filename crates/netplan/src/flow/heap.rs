//! A heap of flows by finish time that can move an entry.

/// Not in the heap.
const ABSENT: u32 = u32::MAX;

/// A binary heap over `0..n`, least key first, with the place of every entry known.
pub(super) struct Schedule {
    order: Vec<u32>,
    place: Vec<u32>,
    key: Vec<f64>,
}

impl Schedule {
    pub(super) fn new(flows: usize) -> Self {
        Self { order: Vec::new(), place: vec![ABSENT; flows], key: vec![f64::INFINITY; flows] }
    }

    pub(super) fn first(&self) -> Option<(u32, f64)> {
        self.order.first().map(|&flow| (flow, self.key[flow as usize]))
    }

    /// The flows in the heap, in no order that means anything.
    pub(super) fn flows(&self) -> &[u32] {
        &self.order
    }

    /// Puts `flow` in, or moves it to a new key.
    pub(super) fn set(&mut self, flow: u32, key: f64) {
        let index = flow as usize;
        if self.place[index] == ABSENT {
            self.key[index] = key;
            self.place[index] = self.order.len() as u32;
            self.order.push(flow);
            self.rise(self.order.len() - 1);
        } else {
            let earlier = key < self.key[index];
            self.key[index] = key;
            let place = self.place[index] as usize;
            if earlier { self.rise(place) } else { self.sink(place) }
        }
    }

    pub(super) fn pop(&mut self) -> Option<(u32, f64)> {
        let (flow, key) = self.first()?;
        let last = self.order.pop().expect("the heap has a first entry");
        self.place[flow as usize] = ABSENT;
        if last != flow {
            self.order[0] = last;
            self.place[last as usize] = 0;
            self.sink(0);
        }
        Some((flow, key))
    }

    /// Replaces everything by these flows; their keys come from `key_of`.
    pub(super) fn rebuild(&mut self, flows: &[u32], key_of: impl Fn(u32) -> f64) {
        for &flow in &self.order {
            self.place[flow as usize] = ABSENT;
        }
        self.order.clear();
        self.order.extend_from_slice(flows);
        for (place, &flow) in flows.iter().enumerate() {
            self.place[flow as usize] = place as u32;
            self.key[flow as usize] = key_of(flow);
        }
        for place in (0..flows.len() / 2).rev() {
            self.sink(place);
        }
    }

    fn rise(&mut self, mut place: usize) {
        let flow = self.order[place];
        let key = self.key[flow as usize];
        while place > 0 {
            let parent = (place - 1) / 2;
            let above = self.order[parent];
            if self.key[above as usize] <= key {
                break;
            }
            self.order[place] = above;
            self.place[above as usize] = place as u32;
            place = parent;
        }
        self.order[place] = flow;
        self.place[flow as usize] = place as u32;
    }

    fn sink(&mut self, mut place: usize) {
        let flow = self.order[place];
        let key = self.key[flow as usize];
        loop {
            let mut child = 2 * place + 1;
            if child >= self.order.len() {
                break;
            }
            if child + 1 < self.order.len()
                && self.key[self.order[child + 1] as usize] < self.key[self.order[child] as usize]
            {
                child += 1;
            }
            let below = self.order[child];
            if self.key[below as usize] >= key {
                break;
            }
            self.order[place] = below;
            self.place[below as usize] = place as u32;
            place = child;
        }
        self.order[place] = flow;
        self.place[flow as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use base::Rng;

    #[test]
    fn flows_leave_in_the_order_of_their_last_key() {
        let mut rng = Rng::seeded(3);
        let mut schedule = Schedule::new(500);
        let mut keys = vec![0.0; 500];
        schedule.rebuild(&(0..250).collect::<Vec<u32>>(), |flow| f64::from(flow % 7));
        for _ in 0..3_000 {
            let flow = rng.below(500) as u32;
            keys[flow as usize] = rng.unit_f64();
            schedule.set(flow, keys[flow as usize]);
        }
        let mut last = (0, 0.0);
        let mut seen = 0;
        while let Some((flow, key)) = schedule.pop() {
            assert!(key >= last.1, "{key} after {last:?}");
            last = (flow, key);
            seen += 1;
        }
        assert_eq!(seen, 500);
    }
}
