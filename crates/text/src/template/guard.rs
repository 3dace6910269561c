//! Puts checks into a template's source, so that none of its values can outgrow the budget.
//!
//! Fuel counts instructions, but one instruction can double a text: thirty of them fill any memory. minijinja has no
//! limit on that and no way to add one, so the source is parsed, and what makes values larger is rewritten to calls of
//! checked functions: `a ~ b` to `__perch_cat(a , b)`, `a + b` and `a * b` to `__perch_sum(…)`, literals of lists and
//! maps to `__perch_fit(…)`. Lines stay where they were. (The parser comes from minijinja's `unstable_machinery`.)

use minijinja::Value;
use minijinja::machinery::ast::{self, BinOpKind, CallArg, Expr, Stmt};
use minijinja::machinery::{Span, Token, parse, tokenize};
use minijinja::syntax::SyntaxConfig;

use super::TemplateError;

/// Joins two values to a text.
pub(super) const CAT: &str = "__perch_cat";
/// Gives a sum or product back if it fits the budget: a text by its length, a list by the number of its items.
pub(super) const SUM: &str = "__perch_sum";
/// Gives a list or map back if it fits the budget with all that it holds.
pub(super) const FIT: &str = "__perch_fit";

/// Constants that minijinja would fold while it compiles may be this long.
const MAX_CONSTANT: usize = 64 << 10;

/// A template's source with its checks.
pub(super) struct Guarded {
    pub(super) source: String,
    /// Bytes of the longest stretch of plain text, which one instruction writes.
    pub(super) longest_text: usize,
}

/// Rewrites `source`.
pub(super) fn guard(source: &str, syntax: &SyntaxConfig) -> Result<Guarded, TemplateError> {
    let tree = parse(source, super::NAME, syntax.clone()).map_err(super::syntax)?;
    let mut tildes = Vec::new();
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token.map_err(super::syntax)?;
        if matches!(token, Token::Tilde) {
            tildes.push(span.start_offset as usize);
        }
    }
    let mut walk = Walk { source, tildes, edits: Vec::new(), longest_text: 0 };
    walk.statement(&tree)?;
    Ok(Guarded { source: apply(source, walk.edits), longest_text: walk.longest_text })
}

/// At this offset, drop so many bytes and put this text.
type Edit = (usize, usize, &'static str);

/// The edits in order of place; of those at one place, the outer expression's come first.
fn apply(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|(at, ..)| *at);
    let mut out = String::with_capacity(source.len() + edits.len() * 8);
    let mut done = 0;
    for (at, drop, text) in edits {
        out.push_str(&source[done..at]);
        out.push_str(text);
        done = at + drop;
    }
    out.push_str(&source[done..]);
    out
}

struct Walk<'s> {
    source: &'s str,
    tildes: Vec<usize>,
    edits: Vec<Edit>,
    longest_text: usize,
}

type Checked = Result<(), TemplateError>;

impl Walk<'_> {
    fn wrap(&mut self, span: Span, open: &'static str) {
        self.edits.push((span.start_offset as usize, 0, open));
        self.edits.push((span.end_offset as usize, 0, ")"));
    }

    fn statements(&mut self, all: &[Stmt<'_>]) -> Checked {
        all.iter().try_for_each(|stmt| self.statement(stmt))
    }

    fn statement(&mut self, stmt: &Stmt<'_>) -> Checked {
        match stmt {
            Stmt::Template(t) => self.statements(&t.children),
            Stmt::EmitExpr(e) => self.expr(&e.expr),
            Stmt::EmitRaw(raw) => {
                self.longest_text = self.longest_text.max(raw.raw.len());
                Ok(())
            }
            Stmt::ForLoop(f) => {
                self.expr(&f.iter)?;
                self.optional(&f.filter_expr)?;
                self.statements(&f.body)?;
                self.statements(&f.else_body)
            }
            Stmt::IfCond(c) => {
                self.expr(&c.expr)?;
                self.statements(&c.true_body)?;
                self.statements(&c.false_body)
            }
            Stmt::WithBlock(w) => {
                w.assignments.iter().try_for_each(|(_, value)| self.expr(value))?;
                self.statements(&w.body)
            }
            Stmt::Set(s) => self.expr(&s.expr),
            Stmt::SetBlock(s) => {
                self.optional(&s.filter)?;
                self.statements(&s.body)
            }
            Stmt::AutoEscape(a) => self.statements(&a.body),
            Stmt::FilterBlock(f) => {
                self.expr(&f.filter)?;
                self.statements(&f.body)
            }
            Stmt::Block(b) => self.statements(&b.body),
            Stmt::Macro(m) => self.macro_body(m),
            Stmt::CallBlock(c) => {
                self.call(&c.call)?;
                self.macro_body(&c.macro_decl)
            }
            Stmt::Do(d) => self.call(&d.call),
            Stmt::Continue(_) | Stmt::Break(_) => Ok(()),
            // There are no other templates.
            Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => Ok(()),
        }
    }

    fn macro_body(&mut self, m: &ast::Macro<'_>) -> Checked {
        m.defaults.iter().try_for_each(|value| self.expr(value))?;
        self.statements(&m.body)
    }

    fn call(&mut self, call: &ast::Call<'_>) -> Checked {
        self.expr(&call.expr)?;
        self.args(&call.args)
    }

    fn args(&mut self, args: &[CallArg<'_>]) -> Checked {
        args.iter().try_for_each(|arg| match arg {
            CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => {
                self.expr(e)
            }
        })
    }

    fn optional(&mut self, expr: &Option<Expr<'_>>) -> Checked {
        expr.as_ref().map_or(Ok(()), |expr| self.expr(expr))
    }

    fn expr(&mut self, expr: &Expr<'_>) -> Checked {
        match expr {
            Expr::Var(_) | Expr::Const(_) => Ok(()),
            Expr::Slice(s) => {
                self.expr(&s.expr)?;
                [&s.start, &s.stop, &s.step].into_iter().try_for_each(|part| self.optional(part))
            }
            Expr::UnaryOp(u) => self.expr(&u.expr),
            Expr::BinOp(b) => self.binary(b, expr.span()),
            Expr::Compare(c) => {
                self.expr(&c.expr)?;
                c.ops.iter().try_for_each(|op| self.expr(&op.expr))
            }
            Expr::IfExpr(i) => {
                self.expr(&i.test_expr)?;
                self.expr(&i.true_expr)?;
                self.optional(&i.false_expr)
            }
            Expr::Filter(f) => {
                self.optional(&f.expr)?;
                self.args(&f.args)
            }
            Expr::Test(t) => {
                self.expr(&t.expr)?;
                self.args(&t.args)
            }
            Expr::GetAttr(g) => self.expr(&g.expr),
            Expr::GetItem(g) => {
                self.expr(&g.expr)?;
                self.expr(&g.subscript_expr)
            }
            Expr::Call(c) => self.call(c),
            Expr::List(l) => {
                self.literal(expr.span());
                l.items.iter().try_for_each(|item| self.expr(item))
            }
            Expr::Tuple(t) => t.items.iter().try_for_each(|item| self.expr(item)),
            Expr::Map(m) => {
                self.literal(expr.span());
                m.keys.iter().chain(&m.values).try_for_each(|item| self.expr(item))
            }
        }
    }

    /// `{% set a, b = 1, 2 %}` is a list without brackets, and as long as the source has it.
    fn literal(&mut self, span: Span) {
        if self.source[span.start_offset as usize..].starts_with(['[', '{']) {
            self.wrap(span, "__perch_fit(");
        }
    }

    fn binary(&mut self, op: &ast::BinOp<'_>, span: Span) -> Checked {
        match op.op {
            BinOpKind::Concat => {
                let between = op.left.span().end_offset as usize..op.right.span().start_offset as usize;
                let mut found = self.tildes.iter().filter(|at| between.contains(at));
                let (Some(at), None) = (found.next(), found.next()) else {
                    let line = span.start_line;
                    return Err(TemplateError::Syntax(format!(
                        "an operator cannot be made out (line {line})"
                    )));
                };
                let at = *at;
                self.wrap(span, "__perch_cat(");
                self.edits.push((at, 1, ","));
            }
            BinOpKind::Add => self.wrap(span, "__perch_sum("),
            BinOpKind::Mul => {
                refuse_large_constant(op)?;
                self.wrap(span, "__perch_sum(");
            }
            _ => {}
        }
        self.expr(&op.left)?;
        self.expr(&op.right)
    }
}

/// `'a' * 99999999` is computed while minijinja compiles, before any budget runs.
fn refuse_large_constant(op: &ast::BinOp<'_>) -> Checked {
    let sides = [&op.left, &op.right];
    // Only literals and numbers: what is nested in here has been or will be looked at by itself.
    let text = sides.iter().find_map(|side| match side {
        Expr::Const(c) => c.value.len(),
        Expr::List(_) | Expr::Tuple(_) | Expr::BinOp(_) => Some(MAX_CONSTANT / 64),
        _ => None,
    });
    let times = sides.iter().find_map(|side| match side {
        Expr::Const(c) => c.value.as_usize(),
        Expr::BinOp(_) | Expr::UnaryOp(_) => side.as_const().as_ref().and_then(Value::as_usize),
        _ => None,
    });
    match (text, times) {
        (Some(text), Some(times)) if text.saturating_mul(times) > MAX_CONSTANT => {
            Err(TemplateError::Limit(format!("it repeats a constant {times} times")))
        }
        _ => Ok(()),
    }
}
