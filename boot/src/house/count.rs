//! Counts of a source: lines, functions, `unsafe`, tests, documented public items.

use anyhow::{Context, Result};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Visibility};

use super::source::Source;

/// A function with its length.
#[derive(Clone)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) lines: usize,
    /// The function is a test, or helps one.
    pub(crate) in_tests: bool,
}

/// The counts of a file, or of many.
#[derive(Default)]
pub(crate) struct Counts {
    files: usize,
    longest: usize,
    lines: usize,
    comments: usize,
    wide_comments: usize,
    pub(crate) functions: Vec<Function>,
    unsafe_blocks: usize,
    safety: usize,
    tests: usize,
    public: usize,
    documented: usize,
}

/// The columns of [`Counts::row`].
pub(crate) const HEAD: &str = "room                     files longest  lines  >100  comment  \
    functions >40 >60  unsafe SAFETY  tests  pub (documented)";

impl Counts {
    /// Counts one file.
    ///
    /// # Errors
    /// `syn::Error` if the file is not Rust.
    pub(crate) fn of(source: &Source) -> Result<Self> {
        let mut counts = Self {
            files: 1,
            longest: source.text.lines().count(),
            ..Self::default()
        };
        for line in source.text.lines() {
            let text = line.trim();
            if text.is_empty() {
                continue;
            }
            counts.lines += 1;
            if text.starts_with("//") {
                counts.comments += 1;
                counts.wide_comments += usize::from(line.chars().count() > 100);
                counts.safety += usize::from(text.contains("SAFETY:"));
            }
        }
        counts.tests = source.text.matches("#[test]").count();
        let file = syn::parse_file(&source.text)
            .with_context(|| format!("{} cannot be parsed", source.path))?;
        let mut visitor = Visitor {
            counts: &mut counts,
            path: &source.path,
            in_tests: source.is_test(),
        };
        visitor.visit_file(&file);
        Ok(counts)
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.files += other.files;
        self.longest = self.longest.max(other.longest);
        self.lines += other.lines;
        self.comments += other.comments;
        self.wide_comments += other.wide_comments;
        self.functions.extend(other.functions.iter().cloned());
        self.unsafe_blocks += other.unsafe_blocks;
        self.safety += other.safety;
        self.tests += other.tests;
        self.public += other.public;
        self.documented += other.documented;
    }

    fn longer_than(&self, lines: usize) -> usize {
        let product = self.functions.iter().filter(|function| !function.in_tests);
        product.filter(|function| function.lines > lines).count()
    }

    /// A line of the table. Lengths of functions are those of the product, without tests.
    pub(crate) fn row(&self, room: &str) -> String {
        let share = 100 * self.comments / self.lines.max(1);
        format!(
            "{room:24} {:5} {:7} {:6} {:5} {share:6} % {:10} {:3} {:3} {:7} {:6} {:6} {:4} ({})",
            self.files,
            self.longest,
            self.lines,
            self.wide_comments,
            self.functions.len(),
            self.longer_than(40),
            self.longer_than(60),
            self.unsafe_blocks,
            self.safety,
            self.tests,
            self.public,
            self.documented,
        )
    }
}

struct Visitor<'a> {
    counts: &'a mut Counts,
    path: &'a str,
    in_tests: bool,
}

impl Visitor<'_> {
    fn function(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        self.counts.functions.push(Function {
            name: name.to_string(),
            path: self.path.to_owned(),
            lines: span.end().line - span.start().line + 1,
            in_tests: self.in_tests,
        });
    }

    fn public(&mut self, visibility: &Visibility, attributes: &[Attribute]) {
        if !self.in_tests && matches!(visibility, Visibility::Public(_)) {
            let documented = attributes.iter().any(|a| a.path().is_ident("doc"));
            self.counts.public += 1;
            self.counts.documented += usize::from(documented);
        }
    }
}

/// Whether an item is compiled for tests only.
fn for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) if list.path.is_ident("cfg") => list.tokens.to_string() == "test",
        other => other.path().is_ident("test"),
    })
}

/// Methods of the visitor that note a public item and go on.
macro_rules! note_public {
    ($($method:ident: $item:ident,)*) => {
        $(fn $method(&mut self, item: &'ast syn::$item) {
            self.public(&item.vis, &item.attrs);
            visit::$method(self, item);
        })*
    };
}

impl<'ast> Visit<'ast> for Visitor<'_> {
    note_public! {
        visit_item_struct: ItemStruct,
        visit_item_enum: ItemEnum,
        visit_item_trait: ItemTrait,
        visit_item_const: ItemConst,
        visit_item_type: ItemType,
        visit_item_static: ItemStatic,
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let outer = self.in_tests;
        self.in_tests |= for_tests(&item.attrs);
        visit::visit_item_mod(self, item);
        self.in_tests = outer;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.public(&item.vis, &item.attrs);
        let outer = self.in_tests;
        self.in_tests |= for_tests(&item.attrs);
        self.function(
            &item.sig.ident,
            item.sig
                .span()
                .join(item.block.span())
                .unwrap_or(item.block.span()),
        );
        visit::visit_item_fn(self, item);
        self.in_tests = outer;
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.public(&item.vis, &item.attrs);
        self.function(&item.sig.ident, item.block.span());
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig.ident, block.span());
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.counts.unsafe_blocks += 1;
        visit::visit_expr_unsafe(self, block);
    }
}
