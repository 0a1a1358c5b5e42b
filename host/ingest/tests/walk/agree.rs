//! Decodes bytes with the walk and with prost and compares. Used by the fuzz targets too.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint, SummaryDataPoint, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prism_ingest::decode::{DecodeError, Decoded};
use prism_ingest::{decode, encode};
use prism_model::Limits;
use prost::Message;

/// Decodes the bytes of a trace request both ways. `Err` tells the difference; `Ok(None)` where both refuse.
pub(crate) fn traces(bytes: &[u8], limits: &Limits) -> Result<Option<Decoded>, String> {
    let theirs = ExportTraceServiceRequest::decode(bytes);
    let Some((decoded, theirs)) = same_verdict(decode::traces(bytes, limits), theirs)? else { return Ok(None) };
    let (expected, refused) = normal_traces(theirs);
    let (found, _) = normal_traces(encode::traces(&decoded.batch));
    same(&expected, &found)?;
    same_count(refused, decoded.rejected.count)?;
    Ok(Some(decoded))
}

/// Decodes the bytes of a logs request both ways. `Err` tells the difference; `Ok(None)` where both refuse.
pub(crate) fn logs(bytes: &[u8], limits: &Limits) -> Result<Option<Decoded>, String> {
    let theirs = ExportLogsServiceRequest::decode(bytes);
    let Some((decoded, theirs)) = same_verdict(decode::logs(bytes, limits), theirs)? else { return Ok(None) };
    let (expected, refused) = normal_logs(theirs);
    let (found, _) = normal_logs(encode::logs(&decoded.batch));
    same(&expected, &found)?;
    same_count(refused, decoded.rejected.count)?;
    Ok(Some(decoded))
}

/// Decodes the bytes of a metrics request both ways. `Err` tells the difference; `Ok(None)` where both refuse.
pub(crate) fn metrics(bytes: &[u8], limits: &Limits) -> Result<Option<Decoded>, String> {
    let theirs = ExportMetricsServiceRequest::decode(bytes);
    let Some((decoded, theirs)) = same_verdict(decode::metrics(bytes, limits), theirs)? else { return Ok(None) };
    let (expected, refused) = normal_metrics(theirs);
    let (found, _) = normal_metrics(encode::metrics(&decoded.batch));
    same(&expected, &found)?;
    same_count(refused, decoded.rejected.count)?;
    Ok(Some(decoded))
}

fn same_verdict<M>(
    ours: Result<Decoded, DecodeError>,
    theirs: Result<M, prost::DecodeError>,
) -> Result<Option<(Decoded, M)>, String> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Ok(Some((ours, theirs))),
        (Err(_), Err(_)) => Ok(None),
        // The one agreed difference: how deep values may be.
        (_, Err(e)) if e.to_string().contains("recursion limit") => Ok(None),
        (Err(DecodeError::TooDeep { .. } | DecodeError::TooManyItems { .. }), Ok(_)) => Ok(None),
        (Ok(_), Err(e)) => Err(format!("accepted what prost refuses: {e}")),
        (Err(e), Ok(_)) => Err(format!("refused what prost accepts: {e}")),
    }
}

fn same(expected: &[String], found: &[String]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let first = expected.iter().zip(found).find(|(e, f)| e != f);
    Err(format!("{} items expected, {} found, first difference: {first:#?}", expected.len(), found.len()))
}

fn same_count(expected: u64, found: u64) -> Result<(), String> {
    if expected == found { Ok(()) } else { Err(format!("{expected} refused items expected, {found} found")) }
}

/// Every span with its resource and scope as text, sorted, as it shall read back; and how many are refused.
pub(crate) fn normal_traces(request: ExportTraceServiceRequest) -> (Vec<String>, u64) {
    let (mut items, mut refused) = (Vec::new(), 0);
    for group in request.resource_spans {
        let resource = normal_resource(group.resource);
        for scope_group in group.scope_spans {
            let scope = normal_scope(scope_group.scope);
            for span in scope_group.spans {
                match normal_span(span) {
                    Some(span) => items.push(format!(
                        "{resource:?} {:?} {scope:?} {:?} {span:?}",
                        group.schema_url, scope_group.schema_url
                    )),
                    None => refused += 1,
                }
            }
        }
    }
    items.sort();
    (items, refused)
}

/// Every log record with its resource and scope as text, sorted, as it shall read back; and how many are refused.
pub(crate) fn normal_logs(request: ExportLogsServiceRequest) -> (Vec<String>, u64) {
    let (mut items, mut refused) = (Vec::new(), 0);
    for group in request.resource_logs {
        let resource = normal_resource(group.resource);
        for scope_group in group.scope_logs {
            let scope = normal_scope(scope_group.scope);
            for record in scope_group.log_records {
                match normal_record(record) {
                    Some(record) => items.push(format!(
                        "{resource:?} {:?} {scope:?} {:?} {record:?}",
                        group.schema_url, scope_group.schema_url
                    )),
                    None => refused += 1,
                }
            }
        }
    }
    items.sort();
    (items, refused)
}

/// Every data point with its resource, scope and descriptor as text, sorted, as it shall read back; and how many are refused.
pub(crate) fn normal_metrics(request: ExportMetricsServiceRequest) -> (Vec<String>, u64) {
    let (mut items, mut refused) = (Vec::new(), 0);
    for group in request.resource_metrics {
        let resource = normal_resource(group.resource);
        for scope_group in group.scope_metrics {
            let scope = normal_scope(scope_group.scope);
            for mut metric in scope_group.metrics {
                let points = normal_points(metric.data.take());
                normal_attributes(&mut metric.metadata);
                for point in points {
                    match point {
                        Some(point) => items.push(format!(
                            "{resource:?} {:?} {scope:?} {:?} {metric:?} {point}",
                            group.schema_url, scope_group.schema_url
                        )),
                        None => refused += 1,
                    }
                }
            }
        }
    }
    items.sort();
    (items, refused)
}

/// Type and points as text; `None` for a point that is refused. A NaN is shown by its bits, which are kept.
fn normal_points(data: Option<Data>) -> Vec<Option<String>> {
    fn each<T>(points: Vec<T>, normal: impl Fn(T) -> Option<String>) -> Vec<Option<String>> {
        points.into_iter().map(normal).collect()
    }
    match data {
        None => Vec::new(),
        Some(Data::Gauge(gauge)) => each(gauge.data_points, |p| normal_number(p, "gauge")),
        Some(Data::Sum(sum)) => {
            let of = format!("sum {} {}", sum.aggregation_temporality, sum.is_monotonic);
            each(sum.data_points, |p| normal_number(p, &of))
        }
        Some(Data::Histogram(h)) => each(h.data_points, |p| normal_histogram(p, h.aggregation_temporality)),
        Some(Data::ExponentialHistogram(h)) => {
            each(h.data_points, |p| normal_exponential(p, h.aggregation_temporality))
        }
        Some(Data::Summary(summary)) => each(summary.data_points, normal_summary),
    }
}

fn bits<'a>(doubles: impl IntoIterator<Item = &'a f64>) -> Vec<u64> {
    doubles.into_iter().map(|d| d.to_bits()).collect()
}

fn normal_number(mut point: NumberDataPoint, of: &str) -> Option<String> {
    let kept = normal_exemplars(&mut point.exemplars) && fits(point.start_time_unix_nano) && fits(point.time_unix_nano);
    normal_attributes(&mut point.attributes);
    let exact = match &point.value {
        Some(number_data_point::Value::AsDouble(d)) => bits([d]),
        _ => Vec::new(),
    };
    kept.then(|| format!("{of} {point:?} {exact:?}"))
}

fn normal_histogram(mut point: HistogramDataPoint, temporality: i32) -> Option<String> {
    let kept = normal_exemplars(&mut point.exemplars)
        && [point.start_time_unix_nano, point.time_unix_nano, point.count].into_iter().all(fits)
        && point.bucket_counts.iter().copied().all(fits);
    normal_attributes(&mut point.attributes);
    let exact = bits(point.sum.iter().chain(&point.min).chain(&point.max).chain(&point.explicit_bounds));
    kept.then(|| format!("histogram {temporality} {point:?} {exact:?}"))
}

fn normal_exponential(mut point: ExponentialHistogramDataPoint, temporality: i32) -> Option<String> {
    let counts = point.positive.iter().chain(&point.negative).flat_map(|b| &b.bucket_counts);
    let kept = counts.copied().all(fits)
        && [point.start_time_unix_nano, point.time_unix_nano, point.count, point.zero_count].into_iter().all(fits)
        && normal_exemplars(&mut point.exemplars);
    normal_attributes(&mut point.attributes);
    let exact = bits(point.sum.iter().chain(&point.min).chain(&point.max).chain([&point.zero_threshold]));
    kept.then(|| format!("exponential {temporality} {point:?} {exact:?}"))
}

fn normal_summary(mut point: SummaryDataPoint) -> Option<String> {
    let kept = [point.start_time_unix_nano, point.time_unix_nano, point.count].into_iter().all(fits);
    normal_attributes(&mut point.attributes);
    let exact = bits(point.quantile_values.iter().flat_map(|q| [&q.quantile, &q.value]).chain([&point.sum]));
    kept.then(|| format!("summary {point:?} {exact:?}"))
}

/// Whether all times fit.
fn normal_exemplars(exemplars: &mut [Exemplar]) -> bool {
    for exemplar in &mut *exemplars {
        normal_attributes(&mut exemplar.filtered_attributes);
        if exemplar.trace_id.len() != 16 {
            exemplar.trace_id.clear();
        }
        if exemplar.span_id.len() != 8 {
            exemplar.span_id.clear();
        }
    }
    exemplars.iter().all(|e| fits(e.time_unix_nano))
}

fn normal_resource(resource: Option<Resource>) -> Option<Resource> {
    let mut resource = resource?;
    normal_attributes(&mut resource.attributes);
    Some(resource).filter(|r| *r != Resource::default())
}

fn normal_scope(scope: Option<InstrumentationScope>) -> Option<InstrumentationScope> {
    let mut scope = scope?;
    normal_attributes(&mut scope.attributes);
    Some(scope).filter(|s| *s != InstrumentationScope::default())
}

fn fits(time: u64) -> bool {
    i64::try_from(time).is_ok()
}

fn valid(id: &[u8], length: usize) -> bool {
    id.len() == length && id.iter().any(|b| *b != 0)
}

fn normal_span(mut span: Span) -> Option<Span> {
    let times = span.events.iter().map(|e| e.time_unix_nano);
    let keep = valid(&span.trace_id, 16)
        && valid(&span.span_id, 8)
        && matches!(span.parent_span_id.len(), 0 | 8)
        && times.chain([span.start_time_unix_nano, span.end_time_unix_nano]).all(fits);
    if !keep {
        return None;
    }
    if !valid(&span.parent_span_id, 8) {
        span.parent_span_id.clear();
    }
    normal_attributes(&mut span.attributes);
    span.events.iter_mut().for_each(|event| normal_attributes(&mut event.attributes));
    for link in &mut span.links {
        normal_attributes(&mut link.attributes);
        if link.trace_id.len() != 16 {
            link.trace_id.clear();
        }
        if link.span_id.len() != 8 {
            link.span_id.clear();
        }
    }
    span.status = span.status.filter(|s| *s != Status::default());
    Some(span)
}

fn normal_record(mut record: LogRecord) -> Option<LogRecord> {
    if !fits(record.time_unix_nano) || !fits(record.observed_time_unix_nano) {
        return None;
    }
    if !valid(&record.trace_id, 16) {
        record.trace_id.clear();
    }
    if !valid(&record.span_id, 8) {
        record.span_id.clear();
    }
    normal_attributes(&mut record.attributes);
    record.body.iter_mut().for_each(normal_value);
    Some(record)
}

/// The order of an attribute list has no meaning, but that of values of one key has.
fn normal_attributes(attributes: &mut [KeyValue]) {
    attributes.iter_mut().for_each(normal_key_value);
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
}

fn normal_key_value(kv: &mut KeyValue) {
    kv.key_strindex = 0;
    normal_value(kv.value.get_or_insert_default());
}

fn normal_value(value: &mut AnyValue) {
    match &mut value.value {
        Some(Value::ArrayValue(array)) => array.values.iter_mut().for_each(normal_value),
        Some(Value::KvlistValue(list)) => list.values.iter_mut().for_each(normal_key_value),
        Some(Value::StringValueStrindex(_)) => value.value = None,
        _ => {}
    }
}
