//! The scan as a plan of DataFusion, which runs its partitions and carries their batches.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchReceiverStreamBuilder;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};

use crate::scan::Scan;

/// The scan as a plan of DataFusion, which runs its partitions.
#[derive(Clone)]
pub(crate) struct ScanExec {
    scan: Arc<Scan>,
    properties: Arc<PlanProperties>,
}

impl ScanExec {
    pub(crate) fn new(scan: Arc<Scan>, partitions: usize) -> ScanExec {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(scan.schema()),
            Partitioning::UnknownPartitioning(partitions.max(1)),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        ScanExec { scan, properties: Arc::new(properties) }
    }
}

impl fmt::Debug for ScanExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScanExec").field("frames", &self.scan.frames.len()).finish_non_exhaustive()
    }
}

impl DisplayAs for ScanExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScanExec: {} frames of {}", self.scan.frames.len(), self.scan.plan.signal)
    }
}

impl ExecutionPlan for ScanExec {
    fn name(&self) -> &str {
        "ScanExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> datafusion::error::Result<TreeNodeRecursion>,
    ) -> datafusion::error::Result<TreeNodeRecursion> {
        // Its expressions are bound nodes, none of DataFusion's.
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { Err(DataFusionError::Internal("a scan has no children".into())) }
    }

    fn execute(&self, _: usize, context: Arc<TaskContext>) -> datafusion::error::Result<SendableRecordBatchStream> {
        let mut stream = RecordBatchReceiverStreamBuilder::new(self.scan.schema(), 1);
        let (scan, sender) = (self.scan.clone(), stream.tx());
        stream.spawn_blocking(move || {
            let batch = scan.work(&context).map_err(|error| {
                // The others need not go on.
                scan.stop.store(true, Ordering::Relaxed);
                DataFusionError::External(Box::new(error))
            });
            // Nobody listens any more where the query was given up.
            let _ = sender.blocking_send(batch);
            Ok(())
        });
        Ok(stream.build())
    }
}
