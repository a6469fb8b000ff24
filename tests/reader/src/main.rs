//! Searches a bundle: `reader LIBONNXRUNTIME.SO BUNDLE QUERY`. The program of a user who depends on the crate `bundle` alone.

use bundle::{Bundle, Language, Provider, Query};

fn main() -> bundle::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(library), Some(dir), Some(text)) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: reader LIBONNXRUNTIME.SO BUNDLE QUERY");
        std::process::exit(2);
    };
    let bundle = Bundle::options().onnxruntime(library).provider(Provider::Cpu).workers(4).open(dir)?;
    let hits = bundle.search(&Query::new(text).language(Language::Python).limit(10))?;
    hits.iter().enumerate().for_each(|(number, hit)| print!("{}", hit.render(number + 1, false)));
    Ok(())
}
