//! Processor time as criterion's clock: a busy machine tells little less than an idle one.

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter};
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of a processor; of this thread or of the whole process.
pub struct CpuTime {
    clock: ClockId,
    /// What one element of a throughput is called.
    element: &'static str,
}

impl CpuTime {
    /// Of the thread that measures.
    #[allow(dead_code, reason = "each bench takes one of the two")]
    pub fn of_thread(element: &'static str) -> CpuTime {
        CpuTime { clock: ClockId::ThreadCPUTime, element }
    }

    /// Of all threads.
    #[allow(dead_code, reason = "each bench takes one of the two")]
    pub fn of_process(element: &'static str) -> CpuTime {
        CpuTime { clock: ClockId::ProcessCPUTime, element }
    }
}

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        let now = clock_gettime(self.clock);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    fn end(&self, start: u64) -> u64 {
        self.start() - start
    }

    fn add(&self, a: &u64, b: &u64) -> u64 {
        a + b
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, nanos: &u64) -> f64 {
        *nanos as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        self
    }
}

impl ValueFormatter for CpuTime {
    fn scale_values(&self, _typical: f64, _values: &mut [f64]) -> &'static str {
        "ns CPU"
    }

    fn scale_throughputs(&self, _typical: f64, throughput: &Throughput, values: &mut [f64]) -> &'static str {
        let (per, unit) = match throughput {
            Throughput::Elements(n) | Throughput::Bytes(n) => (*n as f64, self.element),
            _ => (1.0, "ns CPU"),
        };
        values.iter_mut().for_each(|nanos| *nanos /= per);
        unit
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "ns"
    }
}
