//! The page of the dashboard and all that it loads: files that are a part of the program, so that it needs no other address and
//! nobody has to build anything.

use crate::http::encode::Field;

/// One of the files.
#[derive(Debug)]
pub(super) struct Asset {
    /// Its path.
    pub(super) path: &'static str,
    pub(super) content_type: &'static str,
    pub(super) text: &'static str,
}

/// All of them; the page is at the root.
pub(super) const ASSETS: [Asset; 5] = [
    Asset { path: "/", content_type: "text/html; charset=utf-8", text: include_str!("dashboard/page.html") },
    Asset { path: "/dashboard/page.css", content_type: CSS, text: include_str!("dashboard/page.css") },
    Asset { path: "/dashboard/page.js", content_type: JS, text: include_str!("dashboard/page.js") },
    Asset { path: "/dashboard/uplot.css", content_type: CSS, text: include_str!("dashboard/uplot.css") },
    Asset { path: "/dashboard/uplot.js", content_type: JS, text: include_str!("dashboard/uplot.js") },
];

const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// With each of them. The page runs these scripts and no others, speaks to this listener alone, is in no frame, and writes no
/// markup from text.
pub(super) const FIELDS: &[Field<'_>] = &[
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// The file at that path.
pub(super) fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// What a browser loads in all.
    const PAGE_BYTES_MAX: usize = 150 * 1024;

    #[test]
    fn the_page_weighs_little() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.text.len()).sum();
        assert!(bytes <= PAGE_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn the_policy_has_no_exception() {
        let (name, policy) = FIELDS[0];
        assert_eq!(name, "Content-Security-Policy");
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe") && !policy.contains('*')
        );
        // A part of it would be cut off by a line end.
        assert!(policy.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '), "{policy}");
    }

    #[test]
    fn the_page_loads_what_is_there_and_nothing_from_elsewhere() {
        let page = asset("/").unwrap().text;
        let mut loaded: Vec<&str> =
            page.split(['"', '\'']).filter(|word| word.starts_with("/dashboard/")).collect();
        loaded.sort_unstable();
        let mut served: Vec<&str> =
            ASSETS.iter().map(|asset| asset.path).filter(|path| *path != "/").collect();
        served.sort_unstable();
        assert_eq!(loaded, served);
        for asset in &ASSETS {
            // The address in the licence comment of uPlot is none that is asked for, and nor is the name of a namespace.
            let text = asset.text.replace("https://github.com/leeoniya/uPlot", "");
            assert!(!text.contains("https://") && !text.contains("http://"), "{}", asset.path);
        }
        for word in [" style=", "<style", " onclick=", "javascript:"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn the_licence_of_what_is_not_ours_is_beside_it() {
        let licence = include_str!("dashboard/uplot.LICENSE");
        assert!(
            licence.starts_with("The MIT License")
                && asset("/dashboard/uplot.js").unwrap().text.contains("uPlot (v")
        );
    }
}
