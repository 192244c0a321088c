use haul::datagram::congestion::Congestion;
use haul::sim::Cell;
#[test]
fn grid() {
    let seeds: u64 = std::env::var("SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(3);
    let specs = std::env::var("SPECS").unwrap_or_default();
    let law = match std::env::var("LAW").unwrap_or_default().as_str() {
        "cubic" => Congestion::Cubic,
        _ => Congestion::Bbr,
    };
    for spec in specs.split_whitespace() {
        let o = Cell::new(spec).law(law).run(seeds);
        println!(
            "{spec:60} steady {:.3} worst {:.3} whole {:.3} sent {:.3} spur {:.4} qrounds {:.2} lossafter {:.4}",
            o.median(|f| f.steady),
            o.figures.iter().map(|f| f.steady).fold(9.0, f64::min),
            o.median(|f| f.whole),
            o.median(|f| f.payload),
            o.median(|f| f.spurious),
            o.median(|f| f.queue_rounds),
            o.median(|f| f.loss)
        );
    }
}
