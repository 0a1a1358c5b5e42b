#[test]
fn smoke() {
    let q = "from spans last 1h where service.name = 'checkout' and duration > 100ms by service.name, bin(time, 1m) select count() as n, p95(duration) as p95, count() where duration > 1s as slow, slow / n as err having n > 100 order p95 desc limit 50";
    println!("{:#?}", prism_dsl::parse_text(q));
    for bad in [
        "",
        "from span",
        "from spans where",
        "from spans where a = = 1",
        "from spans where a = 1 b",
        "from spans group by x",
        "from spans select count( where",
        "from spans where count() > 1",
        "from spans select cuont()",
        "from spans where a = 10mb",
        "from spans where a = 'x\\q'",
        "from spans select p95(x) limit -3",
        "from spans where a < b < c",
        "from spans where `a",
        "from spans select count() as n where x > 1",
        "from spans by",
        "from spans last 1h last 2h",
        "from spans wher x",
    ] {
        println!("{}\n", prism_dsl::parse_text(bad).unwrap_err());
    }
}
